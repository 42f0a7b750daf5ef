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

REPLIES: Final[dict[tuple[str, str], st.SearchStrategy[JsonObject]]] = {
    ("openai", "chat"): CHATS,
    ("openai", "completions"): COMPLETIONS,
}
"""By format and operation."""
