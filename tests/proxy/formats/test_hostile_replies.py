"""Whole replies of providers in whatever shape: each is translated with something in it, or is the provider's fault."""

import copy
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamError, UpstreamProtocol
from proxy.formats.fields import Json
from proxy.formats.neutral import Completion, ReplyFacts
from proxy.formats.registry import FORMATS
from proxy.formats.translation import ReplyTranslation

OPERATIONS: Final = {"openai": "chat", "anthropic": "chat", "gemini": "generate", "ollama": "chat"}
USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 2, "input_tokens": 1, "output_tokens": 2}
GOOD: Final[dict[str, Json]] = {
    "openai": {
        "id": "1",
        "model": "m",
        "created": 5,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
        "usage": USAGE,
    },
    "anthropic": {
        "id": "1",
        "type": "message",
        "model": "m",
        "content": [{"type": "text", "text": "Paris"}],
        "stop_reason": "end_turn",
        "usage": USAGE,
    },
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": "Paris"}]}, "finishReason": "STOP", "index": 0}],
        "promptFeedback": {},
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2},
        "modelVersion": "m",
    },
    "ollama": {
        "model": "m",
        "message": {"role": "assistant", "content": "Paris"},
        "done": True,
        "done_reason": "stop",
        "eval_count": 2,
    },
}
CHAT_ENDS: Final = ("stop", "length", "tool_calls", "content_filter", "function_call")
MESSAGE_ENDS: Final = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal")
CANDIDATE_ENDS: Final = ("STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")
ENDINGS: Final = frozenset(CHAT_ENDS + MESSAGE_ENDS + CANDIDATE_ENDS)
CALLS: Final = ("tool_calls", "function_call", "functionCall")
REASONS: Final = ("finish_reason", "stop_reason", "finishReason", "blockReason")

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", *sorted(ENDINGS), "OTHER", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["content", "message", "text", "parts", "type", "index", "done", "choices", *CALLS, *REASONS]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def places(document: Json) -> list[tuple[Any, Any]]:
    """List every container and key in a document."""
    found: list[tuple[Any, Any]] = []
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in pairs:
        found.append((document, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


@st.composite
def hostile(draw: st.DrawFn, name: str) -> Json:
    """Draw a good reply with up to three places overwritten or taken away, or plain junk."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JUNK)
    document = copy.deepcopy(GOOD[name])
    for _ in range(draw(st.integers(0, 3))):
        if not (found := places(document)):
            break
        container, key = draw(st.sampled_from(found))
        if draw(st.booleans()):
            container[key] = draw(JUNK)
        else:
            del container[key]
    return document


def says_why_empty(document: Json) -> bool:
    """Tell whether any part of a reply gives a reason for having no text."""
    if isinstance(document, list):
        return any(map(says_why_empty, document))
    if not isinstance(document, dict):
        return False
    told = any(isinstance(reason := document.get(key), str) and reason in ENDINGS for key in REASONS)
    told = told or bool(isinstance(document.get("promptFeedback"), dict) and document["promptFeedback"])
    told = told or document.get("done") is True or any(document.get(key) for key in CALLS)
    return told or any(map(says_why_empty, document.values()))


def translate(source: str, document: Json, target: str = "native") -> bytes:
    """Translate a whole reply."""
    wire, client = FORMATS[source], FORMATS[target]
    translation = ReplyTranslation(
        (wire, wire.operation(OPERATIONS[source])),
        (client, client.operation(OPERATIONS.get(target, "chat"))),
        is_streaming=False,
        opening=Completion("id", "m", ""),
        facts=ReplyFacts,
    )
    return translation.end(orjson.dumps(document))


@pytest.mark.parametrize("source", OPERATIONS)
@given(data=st.data())
def test_hostile_reply_is_never_an_empty_answer_and_never_another_error(source: str, data: st.DataObject) -> None:
    document = data.draw(hostile(source))

    for target in FORMATS:
        try:
            written = translate(source, document, target)
        except UpstreamError:
            assert document != GOOD[source]
            continue
        answer = orjson.loads(written)
        if target == "native":
            assert answer["finishReason"] in ("stop", "length", "tool_calls", "content_filter")
            assert answer["response"] or says_why_empty(document)


@pytest.mark.parametrize(
    ("source", "document"),
    [
        ("openai", {"choices": [None]}),
        ("openai", {"choices": {}}),
        ("openai", {"choices": 7}),
        ("openai", {"choices": []}),
        ("openai", {"choices": [{}]}),
        ("openai", {"choices": [{"message": None, "finish_reason": "stop"}]}),
        ("openai", {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}),
        ("openai", {"choices": [{"message": {"content": [None]}, "finish_reason": "stop"}]}),
        ("openai", {"choices": [{"message": {"content": ""}}]}),
        ("openai", {"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}),
        ("openai", {"choices": [{"message": {"tool_calls": [None]}}]}),
        ("anthropic", {}),
        ("anthropic", {"content": None, "stop_reason": "end_turn"}),
        ("anthropic", {"content": "text", "stop_reason": "end_turn"}),
        ("anthropic", {"content": [None], "stop_reason": "end_turn"}),
        ("anthropic", {"content": [{"type": "text", "text": 5}], "stop_reason": "end_turn"}),
        ("anthropic", {"content": []}),
        ("gemini", {"candidates": [None]}),
        ("gemini", {"candidates": 1}),
        ("gemini", {"candidates": [{"content": 5, "finishReason": "STOP"}]}),
        ("gemini", {"candidates": [{"content": {"parts": 5}, "finishReason": "STOP"}]}),
        ("gemini", {"candidates": [{"content": {"parts": [None]}, "finishReason": "STOP"}]}),
        ("gemini", {"candidates": [{"content": {"parts": []}}]}),
        ("gemini", {"candidates": [{"finishReason": "OTHER"}]}),
        ("gemini", {"promptFeedback": {"blockReason": 5}}),
        ("ollama", {}),
        ("ollama", {"done": True}),
        ("ollama", {"message": None, "done": True}),
        ("ollama", {"message": [], "done": True}),
        ("ollama", {"message": {"content": 5}, "done": True}),
        ("ollama", {"message": {"content": ""}, "done": False}),
    ],
)
def test_reply_with_nothing_in_it_is_the_providers_fault(source: str, document: Json) -> None:
    with pytest.raises(UpstreamProtocol):
        translate(source, document)


@pytest.mark.parametrize(
    ("source", "document", "reason"),
    [
        *(
            ("openai", {"choices": [{"message": {"content": ""}, "finish_reason": reason}]}, reason)
            for reason in ("stop", "length", "content_filter")
        ),
        ("openai", {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}, "length"),
        ("openai", {"choices": [{"text": "", "finish_reason": "stop"}]}, "stop"),
        (
            "openai",
            {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}]},
            "tool_calls",
        ),
        ("openai", {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]}, "tool_calls"),
        ("anthropic", {"content": [], "stop_reason": "end_turn"}, "stop"),
        ("anthropic", {"content": [{"type": "text", "text": ""}], "stop_reason": "max_tokens"}, "length"),
        ("anthropic", {"content": [{"type": "tool_use", "id": "1"}], "stop_reason": "tool_use"}, "tool_calls"),
        ("anthropic", {"content": [], "stop_reason": "refusal"}, "content_filter"),
        ("gemini", {"candidates": [{"finishReason": "SAFETY"}]}, "content_filter"),
        ("gemini", {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}, "length"),
        ("gemini", {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}, "stop"),
        ("gemini", {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}, "tool_calls"),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter"),
        ("ollama", {"message": {"content": ""}, "done": True, "done_reason": "length"}, "length"),
        ("ollama", {"message": {"content": "", "tool_calls": [{}]}, "done": True}, "tool_calls"),
        ("ollama", {"response": "", "done": True}, "stop"),
    ],
)
def test_answer_that_is_empty_for_a_reason_is_an_answer(source: str, document: Json, reason: str) -> None:
    answer = orjson.loads(translate(source, document))

    assert (answer["response"], answer["finishReason"]) == ("", reason)


@pytest.mark.parametrize("source", OPERATIONS)
def test_time_beyond_every_calendar_can_be_written(source: str) -> None:
    document = {**GOOD[source], "created": 2**63, "created_at": 2**63}

    for target in FORMATS:
        assert b"Paris" in translate(source, document, target)


def test_stream_that_only_says_it_is_done_is_the_providers_fault() -> None:
    wire = FORMATS["openai"]
    reader = wire.stream_reader(wire.operation("chat"))
    reader.feed(b'data: {"choices":[null]}\n\ndata: [DONE]\n\n')

    with pytest.raises(UpstreamProtocol):
        reader.completion()


def test_stream_whose_text_never_ends_is_the_providers_fault() -> None:
    wire = FORMATS["openai"]
    reader = wire.stream_reader(wire.operation("chat"))
    event = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * (1 << 19))

    for _ in range(64):
        reader.feed(event)

    with pytest.raises(UpstreamProtocol, match="more than 33554432 characters"):
        reader.feed(event)
