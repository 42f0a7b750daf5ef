"""What holds for all formats: operations, errors and their headers, streams split anywhere."""

import inspect
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.errors import MethodNotAllowed, Overloaded, ProxyError, Refused, RevisionMismatch, Unauthorized
from proxy.formats.neutral import ChatRequest, Completion, Message, ReplyFacts
from proxy.formats.registry import FORMATS
from proxy.formats.translation import ReplyTranslation
from tests.proxy.formats.streams import STREAMS

CLIENT_PATHS = """
    POST /  POST /v1/chat/completions  POST /v1/completions  POST /v1/embeddings  POST /v1/responses  GET /v1/models
    POST /v1/messages  POST /v1/messages/count_tokens  POST /v1/models/{model}:generateContent
    POST /v1beta/models/{model}:streamGenerateContent  POST /v1alpha/models/{model}:countTokens
    POST /v1beta/tunedModels/{model}:generateContent  POST /v1/models/{model}:embedContent
    POST /v1beta/models/{model}:batchEmbedContents  GET /v1beta/models  GET /v1/models/{model}
    POST /api/chat  POST /api/generate  POST /api/embed  POST /api/embeddings  POST /api/show  GET /api/tags
    GET /api/version  GET /api/ps
"""

GEMINI_PARTS = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"Par"}]}}]}\n\n'
    b'data: {"candidates":[{"content":{"parts":[{"text":"is"}]},"finishReason":"STOP"}]}\n'
)


def every_error() -> list[ProxyError]:
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, ProxyError)]
    made: list[ProxyError] = [Refused("no \ud800", code="spent", status=status) for status in (403, 418, 429, 503)]
    made += [error("why") for error in classes if error not in (Refused, MethodNotAllowed, RevisionMismatch)]
    return [*made, MethodNotAllowed("why", ("GET",)), RevisionMismatch("why", 7)]


def test_every_client_path_of_the_design_is_an_operation() -> None:
    words = CLIENT_PATHS.split()
    wanted = set(zip(words[::2], words[1::2], strict=True))
    found = {(operation.method, operation.path) for wire in FORMATS.values() for operation in wire.operations}

    assert wanted <= found


def test_no_two_operations_of_a_format_share_a_path() -> None:
    for wire in FORMATS.values():
        paths = [(operation.method, operation.path) for operation in wire.operations]
        assert len(paths) == len(set(paths))
        assert all(operation.format == wire.name for operation in wire.operations)


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_can_be_written_with_its_code(name: str, error: ProxyError) -> None:
    wire = FORMATS[name]

    body = wire.error_body(error, "r1")

    assert 400 <= wire.error_status(error) < 600
    assert isinstance(orjson.loads(body), dict)
    assert error.code.encode() in body or (name == "openai" and isinstance(error, Unauthorized))
    for operation in wire.operations:
        if operation.streams:
            event = wire.error_event(operation, error, "r1")
            observer = wire.observer(operation, True)
            observer.feed(event)
            assert observer.error is not None
            assert not observer.has_output


@pytest.mark.parametrize("name", list(FORMATS))
def test_headers_tell_when_to_come_again(name: str) -> None:
    headers = FORMATS[name].headers_for_error(Overloaded("full", retry_after_s=1.2))

    assert (b"Retry-After", b"2") in headers
    assert (b"retry-after-ms", b"1200") in headers
    assert FORMATS[name].headers_for_error(Overloaded("full")) == []
    assert FORMATS[name].headers_for_error(MethodNotAllowed("no", ("GET", "POST"))) == [(b"Allow", b"GET, POST")]
    assert FORMATS[name].headers_for_error(Unauthorized("no")) == [(b"WWW-Authenticate", b"Bearer")]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 3000), max_size=12))
def test_readers_give_the_same_text_however_a_stream_is_split(case: tuple[str, str, bytes], cuts: list[int]) -> None:
    name, operation, stream = case
    wire = FORMATS[name]
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    reader, whole = wire.stream_reader(wire.operation(operation)), wire.stream_reader(wire.operation(operation))

    texts = [text for begin, end in pairwise(ends) for text in reader.feed(stream[begin:end])]

    assert texts == whole.feed(stream)
    assert "".join(texts).startswith("hél")
    assert reader.completion() == whole.completion()


@given(st.sampled_from(STREAMS), st.lists(st.binary(max_size=40) | st.just(b"\n\n"), max_size=6))
def test_readers_raise_only_our_errors(case: tuple[str, str, bytes], pieces: list[bytes]) -> None:
    reader = FORMATS[case[0]].stream_reader(FORMATS[case[0]].operation(case[1]))

    try:
        for piece in pieces:
            reader.feed(piece)
        reader.completion()
    except ProxyError:
        pass


@pytest.mark.parametrize(
    ("name", "operation", "stream"),
    [
        ("ollama", "chat", b'{"message":{"content":"Par"}}\n{"message":{"content":"is"},"done":true}'),
        ("gemini", "stream_generate", GEMINI_PARTS),
    ],
)
def test_text_in_a_last_event_that_only_the_end_completes_reaches_the_client(
    name: str, operation: str, stream: bytes
) -> None:
    source, target = FORMATS[name], FORMATS["openai"]
    translation = ReplyTranslation(
        (source, source.operation(operation)),
        (target, target.operation("chat")),
        is_streaming=True,
        opening=Completion("1", "m", ""),
        facts=lambda: ReplyFacts(name, False, 1.0, "t"),
    )

    streamed = translation.feed(stream) + translation.end(b"")

    reader = target.stream_reader(target.operation("chat"))
    assert "".join(reader.feed(streamed)) == "Paris"


def test_last_text_is_the_users() -> None:
    chat = ChatRequest([Message("user", "a"), Message("assistant", "b")])

    assert (chat.last_text, ChatRequest([Message("tool", "c")]).last_text, ChatRequest([]).last_text) == ("a", "c", "")
