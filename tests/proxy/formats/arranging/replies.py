"""Whole replies of every operation with two forms, generated; nothing in them is rare enough to be left out."""

from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

from proxy.exchange import JsonObject

TEXTS: Final = st.text(max_size=8) | st.just("Päris " * 200)
NAMES: Final = st.text("abc_", min_size=1, max_size=5).map("x_{}".format)
"""Names of fields that no format has."""
COUNTS: Final = st.integers(0, 2**70)
SCALARS: Final = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
EXTRAS: Final = st.dictionaries(NAMES, VALUES, max_size=2)
OBJECTS: Final = st.dictionaries(st.text(max_size=4), VALUES, max_size=3)


def objects(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> st.SearchStrategy[JsonObject]:
    """Objects with these fields, and some of a kind that nobody knows."""
    known = st.fixed_dictionaries(dict(required), optional=dict(optional or {}))
    return st.builds(lambda fields, more: more | fields, known, EXTRAS)


def numbered(items: st.SearchStrategy[JsonObject], most: int = 3) -> st.SearchStrategy[list[JsonObject]]:
    """Lists whose objects have their position as `index`."""
    return st.lists(items, min_size=1, max_size=most).map(
        lambda found: [item | {"index": position} for position, item in enumerate(found)]
    )


# -- openai ----------------------------------------------------------------------------------------------------------

FUNCTIONS: Final = st.fixed_dictionaries({"name": NAMES, "arguments": TEXTS})
CALLS: Final = objects({"id": NAMES, "type": st.just("function"), "function": FUNCTIONS})
MESSAGES: Final = objects(
    {"role": st.just("assistant"), "content": st.none() | TEXTS, "refusal": st.none() | TEXTS},
    {
        "reasoning_content": st.none() | TEXTS,
        "reasoning": st.none() | TEXTS,
        "tool_calls": st.none() | st.lists(CALLS, max_size=3),
        "function_call": st.none() | FUNCTIONS,
        "annotations": st.lists(OBJECTS, max_size=2),
        "audio": st.none() | OBJECTS,
    },
)
LOGPROBS: Final = st.none() | st.dictionaries(
    st.sampled_from(["content", "refusal", "tokens", "text_offset"]), st.none() | st.lists(VALUES, max_size=3)
)
ENDS: Final = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
CHAT_USAGE: Final = objects({"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS})
CHAT_HEAD: Final = {
    "id": st.text(min_size=1, max_size=5),
    "created": st.integers(1, 2**40),
    "model": st.text(min_size=1, max_size=5),
    "usage": CHAT_USAGE,
}
CHAT_OPTIONAL: Final = {"system_fingerprint": st.none() | TEXTS, "service_tier": st.none() | st.just("default")}
CHATS: Final = objects(
    {
        **CHAT_HEAD,
        "object": st.just("chat.completion"),
        "choices": numbered(objects({"message": MESSAGES, "finish_reason": ENDS}, {"logprobs": LOGPROBS})),
    },
    CHAT_OPTIONAL,
)
COMPLETIONS: Final = objects(
    {
        **CHAT_HEAD,
        "object": st.just("text_completion"),
        "choices": numbered(objects({"text": TEXTS, "finish_reason": ENDS}, {"logprobs": LOGPROBS})),
    },
    CHAT_OPTIONAL,
)

PARTS: Final = st.one_of(
    objects(
        {"type": st.just("output_text"), "text": TEXTS, "annotations": st.lists(OBJECTS, max_size=2)},
        {"logprobs": st.lists(OBJECTS, max_size=2)},
    ),
    objects({"type": st.just("refusal"), "refusal": TEXTS}),
)
ITEM_HEAD: Final = {"id": NAMES, "status": st.sampled_from(["completed", "incomplete"])}
ITEMS: Final = st.one_of(
    objects({**ITEM_HEAD, "type": st.just("message"), "role": st.just("assistant"), "content": st.lists(PARTS)}),
    objects({**ITEM_HEAD, "type": st.just("function_call"), "call_id": NAMES, "name": NAMES, "arguments": TEXTS}),
    objects({**ITEM_HEAD, "type": st.just("custom_tool_call"), "call_id": NAMES, "name": NAMES, "input": TEXTS}),
    objects(
        {
            "id": NAMES,
            "type": st.just("reasoning"),
            "summary": st.lists(objects({"type": st.just("summary_text"), "text": TEXTS}), max_size=2),
        },
        {
            "content": st.lists(objects({"type": st.just("reasoning_text"), "text": TEXTS}), max_size=2),
            "encrypted_content": st.none() | TEXTS,
        },
    ),
)
RESPONSES: Final = objects(
    {
        "id": NAMES,
        "object": st.just("response"),
        "created_at": COUNTS,
        "status": st.sampled_from(["completed", "incomplete"]),
        "error": st.none(),
        "incomplete_details": st.none() | OBJECTS,
        "model": NAMES,
        "output": st.lists(ITEMS, max_size=3),
        "usage": objects({"input_tokens": COUNTS, "output_tokens": COUNTS}),
    },
    {"completed_at": COUNTS, "metadata": OBJECTS, "tools": st.lists(OBJECTS, max_size=2)},
)

# -- anthropic -------------------------------------------------------------------------------------------------------

BLOCKS: Final = st.one_of(
    objects({"type": st.just("text"), "text": TEXTS}, {"citations": st.none() | st.lists(OBJECTS, max_size=2)}),
    objects({"type": st.just("thinking"), "thinking": TEXTS, "signature": TEXTS}),
    objects({"type": st.just("redacted_thinking"), "data": TEXTS}),
    objects(
        {
            "type": st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]),
            "id": NAMES,
            "name": NAMES,
            "input": OBJECTS,
        }
    ),
    objects({"type": st.just("web_search_tool_result"), "tool_use_id": NAMES, "content": st.lists(OBJECTS)}),
)
MESSAGE_USAGE: Final = objects(
    {"input_tokens": COUNTS, "output_tokens": COUNTS},
    {
        "cache_read_input_tokens": st.none() | COUNTS,
        "cache_creation_input_tokens": st.none() | COUNTS,
        "output_tokens_details": st.none() | OBJECTS,
        "server_tool_use": st.none() | OBJECTS,
        "service_tier": st.just("standard"),
    },
)
ANTHROPIC_MESSAGES: Final = objects(
    {
        "id": NAMES,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": NAMES,
        "content": st.lists(BLOCKS, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]),
        "stop_sequence": st.none() | TEXTS,
        "usage": MESSAGE_USAGE,
    },
    {"container": st.none() | OBJECTS, "stop_details": st.none() | OBJECTS, "context_management": st.none() | OBJECTS},
)

# -- gemini ----------------------------------------------------------------------------------------------------------

GEMINI_PARTS: Final = st.one_of(
    st.fixed_dictionaries({"text": TEXTS}, optional={"thought": st.booleans()}),
    objects({"text": TEXTS, "thoughtSignature": st.just("c2ln")}),
    objects({"functionCall": st.fixed_dictionaries({"name": NAMES, "args": OBJECTS})}),
    st.just({"inlineData": {"mimeType": "image/png", "data": "eA=="}}),
)
CANDIDATES: Final = objects(
    {"finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"])},
    {
        "content": objects({"role": st.just("model")}, {"parts": st.lists(GEMINI_PARTS, max_size=4)}),
        "safetyRatings": st.lists(OBJECTS, max_size=2),
        "avgLogprobs": st.floats(-9, 0),
    },
)
USAGE_METADATA: Final = objects({"promptTokenCount": COUNTS, "candidatesTokenCount": COUNTS, "totalTokenCount": COUNTS})
GEMINI_HEAD: Final = {"modelVersion": NAMES, "responseId": NAMES, "usageMetadata": USAGE_METADATA}
GENERATED: Final = st.one_of(
    objects({**GEMINI_HEAD, "candidates": numbered(CANDIDATES)}, {"promptFeedback": OBJECTS}),
    objects({**GEMINI_HEAD, "candidates": CANDIDATES.map(lambda candidate: [candidate])}),
    objects({**GEMINI_HEAD, "promptFeedback": st.just({"blockReason": "SAFETY"})}),
)

# -- ollama ----------------------------------------------------------------------------------------------------------

OLLAMA_CALLS: Final = st.lists(
    objects({"function": st.fixed_dictionaries({"name": NAMES, "arguments": OBJECTS})}), max_size=2
)
OLLAMA_HEAD: Final = {
    "model": NAMES,
    "created_at": st.just("2026-11-24T00:00:00Z"),
    "done": st.just(True),
    "done_reason": st.sampled_from(["stop", "length"]),
}
OLLAMA_OPTIONAL: Final = {
    "eval_count": COUNTS,
    "prompt_eval_count": COUNTS,
    "logprobs": st.none() | st.lists(OBJECTS, max_size=2),
}
OLLAMA_CHATS: Final = objects(
    {
        **OLLAMA_HEAD,
        "message": objects(
            {"role": st.just("assistant"), "content": TEXTS},
            {"thinking": st.none() | TEXTS, "tool_calls": st.none() | OLLAMA_CALLS},
        ),
    },
    OLLAMA_OPTIONAL,
)
OLLAMA_GENERATED: Final = objects(
    {**OLLAMA_HEAD, "response": TEXTS},
    {**OLLAMA_OPTIONAL, "thinking": TEXTS, "context": st.lists(COUNTS, max_size=3), "tool_calls": OLLAMA_CALLS},
)

# -- native ----------------------------------------------------------------------------------------------------------

NATIVE_REPLIES: Final = objects(
    {
        "id": NAMES,
        "model": NAMES,
        "provider": st.none() | NAMES,
        "response": TEXTS,
        "usage": st.fixed_dictionaries({"inputTokens": COUNTS, "outputTokens": COUNTS}),
        "cached": st.booleans(),
        "latencyMs": st.none() | st.floats(0, 1e6),
        "finishReason": st.sampled_from(["stop", "length"]),
    }
)

REPLIES: Final[dict[tuple[str, str], st.SearchStrategy[JsonObject]]] = {
    ("openai", "chat"): CHATS,
    ("openai", "completions"): COMPLETIONS,
    ("openai", "responses"): RESPONSES,
    ("anthropic", "chat"): ANTHROPIC_MESSAGES,
    ("gemini", "generate"): GENERATED,
    ("gemini", "stream_generate"): GENERATED,
    ("ollama", "chat"): OLLAMA_CHATS,
    ("ollama", "generate"): OLLAMA_GENERATED,
    ("native", "chat"): NATIVE_REPLIES,
}
"""By format and operation."""
