"""Calls of tools are found in every format and form, and never in a text that only speaks of them."""

from typing import Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import JsonObject, Operation
from proxy.formats.registry import FORMATS
from proxy.formats.traits import CALLS, has_tool_calls
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.endpoints import ENDPOINTS
from proxy.testing.shapes import gemini as gemini_shapes

NAMES: Final = {("anthropic", "chat"): "messages", ("gemini", "stream_generate"): "stream"}
TALK: Final = Answer(
    texts=(
        'Say "tool_calls", "function_call", "functionCall", "executableCode", tool_use" or "x_call" \\u0041 ',
        "and it is text.",
    )
)
CALLING: Final = Answer(texts=(), tool_call=ToolCall("weather", '{"city":"Paris"}'))


def operation(format_name: str, name: str) -> Operation:
    return FORMATS[format_name].operation(name)


def bodies(kind: tuple[str, str], answer: Answer) -> list[tuple[bytes, bool]]:
    """What the fake provider answers, each with whether it is a stream."""
    found: list[tuple[bytes, bool]] = []
    for endpoint in ENDPOINTS:
        if (endpoint.format, endpoint.name) == (kind[0], NAMES.get(kind, kind[1])):
            if endpoint.whole:
                found.append((orjson.dumps(endpoint.whole(answer, {"model": "m"})), False))
            if endpoint.streamed:
                shape = endpoint.streamed(answer, {"model": "m"})
                found.append((b"".join((*shape.before, *shape.texts, *shape.end)), True))
    return found


@pytest.mark.parametrize("kind", sorted(CALLS.keys() - {("ollama", "generate")}))
def test_calls_are_told_from_talk_about_them(kind: tuple[str, str]) -> None:
    assert bodies(kind, CALLING)
    for body, is_stream in bodies(kind, CALLING):
        assert has_tool_calls(operation(*kind), body, is_stream)
    for answer in (Answer(), TALK):
        for body, is_stream in bodies(kind, answer):
            assert not has_tool_calls(operation(*kind), body, is_stream)


def test_array_of_gemini_is_read_too() -> None:
    for answer, expected in ((CALLING, True), (TALK, False)):
        shape = gemini_shapes.array_stream(answer, {"model": "m"})

        body = b"".join((*shape.texts, *shape.end))

        assert has_tool_calls(operation("gemini", "stream_generate"), body, True) is expected


@pytest.mark.parametrize(
    ("format_name", "name", "document", "expected"),
    [
        ("openai", "chat", {"choices": [{"message": {"tool_calls": [], "function_call": None}}]}, False),
        ("openai", "chat", {"choices": [{"message": {"function_call": {"name": "f"}}}]}, True),
        ("openai", "chat", {"choices": [{"message": {}}, {"message": {}, "finish_reason": "tool_calls"}]}, True),
        ("openai", "responses", {"output": [], "parallel_tool_calls": True, "tools": [{"type": "function"}]}, False),
        ("openai", "responses", {"output": [{"type": "web_search_call"}]}, True),
        ("openai", "responses", {"output": [{"type": "mcp_approval_request"}]}, True),
        ("anthropic", "chat", {"content": [{"type": "server_tool_use"}]}, True),
        ("anthropic", "chat", {"content": [], "usage": {"server_tool_use": None}}, False),
        ("gemini", "generate", {"candidates": [{}, {"content": {"parts": [{"executableCode": {}}]}}]}, True),
        ("ollama", "generate", {"response": "", "tool_calls": [{}], "done": True}, True),
        ("ollama", "chat", {"message": {"tool_calls": None}, "done": True}, False),
        ("openai", "embeddings", {"data": []}, False),
    ],
)
def test_what_counts_as_a_call(format_name: str, name: str, document: JsonObject, expected: bool) -> None:
    assert has_tool_calls(operation(format_name, name), orjson.dumps(document), False) is expected


def test_name_spelled_with_escapes_is_found() -> None:
    body = b'{"choices":[{"message":{"tool\\u005fcalls":[{"id":"a"}]}}]}'

    assert has_tool_calls(operation("openai", "chat"), body, False)


def test_doubt_counts_as_a_call() -> None:
    raw = Operation("openai", "raw", "POST", "/v1/threads/runs")

    assert has_tool_calls(operation("openai", "chat"), b'{"tool_calls"', False)
    assert has_tool_calls(operation("openai", "chat"), b'"tool_calls" ' + b"[" * 100_000, True)
    assert has_tool_calls(raw, b'{"tool_calls":[]}', False)
    assert not has_tool_calls(raw, b"{}", False)


@given(st.sampled_from(sorted(CALLS)), st.binary(), st.sampled_from([b"", *CALLS["openai", "chat"][0]]), st.booleans())
def test_rubbish_raises_nothing(kind: tuple[str, str], junk: bytes, mark: bytes, is_stream: bool) -> None:
    assert has_tool_calls(operation(*kind), junk + mark + junk, is_stream) in (True, False)
