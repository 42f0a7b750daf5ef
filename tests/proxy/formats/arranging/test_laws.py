"""What holds for every format: there and back is the same, a damaged stream is no reply, and nothing raises."""

import json
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.exchange import JsonObject, Operation
from proxy.formats.arranging.material import dump_exactly
from proxy.formats.rearrange import ARRANGERS, rearrange
from proxy.formats.registry import FORMATS
from proxy.sink import ResponseObserver
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.endpoints import ENDPOINTS, Endpoint
from tests.proxy.formats.arranging.replies import REPLIES, VALUES

KINDS: Final = sorted(ARRANGERS)
CASES: Final = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), REPLIES[kind]))
ANSWERS: Final = [
    Answer(),
    Answer(texts=("",)),
    Answer(texts=("Ünïcode ", "\n\n", '"quoted" \U0001f30d', "[DONE]")),
    Answer(texts=(), tool_call=ToolCall("weather", '{"city":"Paris","days":[1,2.5]}')),
]


def operation(kind: tuple[str, str]) -> Operation:
    return FORMATS[kind[0]].operation(kind[1])


def there(kind: tuple[str, str], reply: JsonObject, is_array: bool = False) -> bytes:
    body = rearrange(operation(kind), dump_exactly(reply), is_streaming=True, with_usage=True, is_array=is_array)
    assert body is not None
    return body


def back(kind: tuple[str, str], stream: bytes) -> Any:
    body = rearrange(operation(kind), stream, is_streaming=False)
    return None if body is None else json.loads(body)


def written(document: Any) -> str:
    """JSON in one spelling: 1, 1.0 and true are three things, as they are on the wire."""
    return json.dumps(document, sort_keys=True)


def observed(kind: tuple[str, str], body: bytes, is_streaming: bool) -> ResponseObserver:
    observer = FORMATS[kind[0]].observer(operation(kind), is_streaming)
    observer.feed(body)
    observer.finish()
    return observer


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_there_and_back_is_the_same_reply(kind: tuple[str, str], data: st.DataObject) -> None:
    reply = data.draw(REPLIES[kind])

    assert written(back(kind, there(kind, reply))) == written(reply)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_written_stream_is_complete_and_tells_the_same_usage(kind: tuple[str, str], data: st.DataObject) -> None:
    reply = data.draw(REPLIES[kind])

    seen = observed(kind, there(kind, reply), True)

    assert (seen.is_complete, seen.has_output, seen.error) == (True, True, None)
    assert seen.usage == observed(kind, dump_exactly(reply), False).usage


@settings(max_examples=150)
@given(CASES, st.floats(0, 1))
def test_cut_stream_is_no_reply(case: tuple[tuple[str, str], JsonObject], share: float) -> None:
    kind, reply = case
    stream = there(kind, reply)
    kept = stream[: int(len(stream) * share)]

    found = back(kind, kept)

    # All that may be missing is what ends the last event: then nothing was lost.
    assert found is None or written(found) == written(reply)
    assert found is None or not stream[len(kept) :].strip(b"\r\n]")


@settings(max_examples=150)
@given(CASES, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), min_size=1, max_size=4))
def test_damaged_body_is_no_reply_or_one_that_is_the_same_in_both_forms(
    case: tuple[tuple[str, str], JsonObject], damages: list[tuple[float, bytes]]
) -> None:
    kind, reply = case
    for body in (there(kind, reply), dump_exactly(reply)):
        for share, junk in damages:
            at = int(len(body) * share)
            body = body[:at] + junk + body[at + 2 :]

        whole, stream = (
            rearrange(operation(kind), body, is_streaming=is_streaming, with_usage=True)
            for is_streaming in (False, True)
        )

        assert whole is None or isinstance(json.loads(whole), dict)
        assert stream is None or (whole is not None and written(back(kind, stream)) == written(json.loads(whole)))


@settings(max_examples=150)
@given(st.sampled_from(KINDS), CASES)
def test_event_left_out_repeated_or_moved_makes_no_reply_or_one_that_can_be_written_again(
    kind: tuple[str, str], case: tuple[tuple[str, str], JsonObject]
) -> None:
    stream = there(*case)
    mark = b"\n" if case[0][0] == "ollama" else b"\n\n"
    events = [event + mark for event in stream.split(mark)[:-1]]

    for at in range(min(len(events), 6)):
        for changed in (events[:at] + events[at + 1 :], [*events, events[at]], events[at:] + events[:at]):
            found = back(kind, b"".join(changed))

            assert found is None or written(back(kind, there(kind, found))) == written(found)


def _change(draw: st.DrawFn, value: Any) -> Any:
    """Put something else in one place of a document."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: _change(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _change(draw, value[at]), *value[at + 1 :]]
    return draw(VALUES)


@st.composite
def odd_replies(draw: st.DrawFn) -> tuple[tuple[str, str], JsonObject]:
    kind, reply = draw(CASES)
    changed = _change(draw, reply)
    return kind, changed if isinstance(changed, dict) else reply


@settings(max_examples=400)
@given(odd_replies())
def test_reply_with_something_odd_in_it_comes_back_as_it_was_or_is_refused(
    case: tuple[tuple[str, str], JsonObject],
) -> None:
    kind, reply = case

    stream = rearrange(operation(kind), dump_exactly(reply), is_streaming=True, with_usage=True)

    if stream is not None:
        assert written(back(kind, stream)) == written(reply)


@settings(max_examples=200)
@given(st.sampled_from(KINDS), st.lists(VALUES, max_size=4), st.binary(max_size=60))
def test_foreign_bodies_are_refused(kind: tuple[str, str], documents: list[Any], junk: bytes) -> None:
    lines = [dump_exactly(document) for document in documents]
    bodies = [junk, b"\n".join(lines), b"".join(b"data: " + line + b"\n\n" for line in lines), b"\x1f\x8b" + junk, b""]

    for body in bodies:
        for is_streaming in (False, True):
            assert rearrange(operation(kind), body, is_streaming=is_streaming) is None


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_of_the_other_formats_are_refused(kind: tuple[str, str]) -> None:
    for other in KINDS:
        if not _shares_shapes(kind, other):
            for body in _shapes(other):
                assert rearrange(operation(kind), body, is_streaming=False) is None
                assert rearrange(operation(kind), body, is_streaming=True) is None


def _shares_shapes(kind: tuple[str, str], other: tuple[str, str]) -> bool:
    return kind == other or kind[0] == other[0] == "gemini"


def _endpoint(kind: tuple[str, str]) -> Endpoint | None:
    names = {("anthropic", "chat"): "messages", ("gemini", "stream_generate"): "stream"}
    for endpoint in ENDPOINTS:
        if (endpoint.format, endpoint.name) == (kind[0], names.get(kind, kind[1])):
            return endpoint
    return None


def _shapes(kind: tuple[str, str]) -> list[bytes]:
    document = {"model": "m", "stream_options": {"include_usage": True}}
    endpoint = _endpoint(kind)
    bodies: list[bytes] = []
    for answer in ANSWERS if endpoint else []:
        if endpoint and endpoint.whole:
            bodies.append(orjson.dumps(endpoint.whole(answer, document)))
        if endpoint and endpoint.streamed:
            shape = endpoint.streamed(answer, document)
            bodies.append(b"".join((*shape.before, *shape.texts, *shape.end)))
    return bodies


@pytest.mark.parametrize(("format_name", "name"), [("openai", "embeddings"), ("anthropic", "count_tokens")])
def test_operation_of_one_form_has_no_other(format_name: str, name: str) -> None:
    assert rearrange(operation((format_name, name)), b"{}", is_streaming=True) is None
