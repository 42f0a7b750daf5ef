"""Observers see the same however a stream is split, and understand every format's preamble, end and errors."""

from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.formats.observing import EVENT_LIMIT_BYTES, WHOLE_LIMIT_BYTES
from proxy.formats.registry import FORMATS
from proxy.sink import ResponseObserver
from proxy.usage import Usage
from tests.proxy.formats.streams import ANTHROPIC, GEMINI, NATIVE, OLLAMA, OPENAI_CHAT, RESPONSES, STREAMS

Seen = tuple[bool, bool, str | None, Usage | None, str | None]
KINDS = [(name, operation.name) for name, wire in FORMATS.items() for operation in wire.operations if operation.streams]
KINDS = list(dict.fromkeys(KINDS))
CUTS = st.lists(st.integers(0, 3000), max_size=12)


def observe(name: str, operation: str, parts: list[bytes], is_streaming: bool = True) -> ResponseObserver:
    observer = FORMATS[name].observer(FORMATS[name].operation(operation), is_streaming)
    for part in parts:
        observer.feed(part)
    observer.finish()
    return observer


def seen(observer: ResponseObserver) -> Seen:
    return observer.has_output, observer.is_complete, observer.error, observer.usage, observer.served_model


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(ends)]


@pytest.mark.parametrize(("name", "operation", "stream"), STREAMS)
def test_whole_stream_tells_usage_model_and_completeness(name: str, operation: str, stream: bytes) -> None:
    observer = observe(name, operation, [stream])

    assert observer.has_output
    assert observer.is_complete
    assert observer.error is None
    assert observer.served_model is not None
    assert observer.served_model.endswith(("-x", "-x-2"))
    assert observer.usage is not None
    assert (observer.usage.input_tokens, observer.usage.output_tokens) == (9, 4)


@pytest.mark.parametrize(("name", "operation", "stream"), STREAMS)
def test_byte_by_byte_gives_the_same_as_whole(name: str, operation: str, stream: bytes) -> None:
    whole = observe(name, operation, [stream])

    assert seen(observe(name, operation, split(stream, list(range(len(stream)))))) == seen(whole)


@given(st.sampled_from(STREAMS), CUTS, st.integers(0, 3000))
def test_any_split_of_any_prefix_gives_the_same(case: tuple[str, str, bytes], cuts: list[int], end: int) -> None:
    name, operation, stream = case
    data = stream[:end]

    assert seen(observe(name, operation, split(data, cuts))) == seen(observe(name, operation, [data]))


@settings(max_examples=300)
@given(
    st.sampled_from(KINDS),
    st.lists(st.sampled_from([data for *_, stream in STREAMS for data in stream.splitlines(True)]) | st.binary()),
    CUTS,
)
def test_shuffled_events_and_rubbish_raise_nothing_and_split_alike(
    kind: tuple[str, str], pieces: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(pieces)

    assert seen(observe(*kind, split(data, cuts))) == seen(observe(*kind, [data]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "index",
                    "usage",
                    "error",
                    "message",
                    "response",
                    "type",
                    "item",
                    "model",
                    "candidates",
                    "content",
                    "parts",
                    "finish_reason",
                    "promptFeedback",
                    "usageMetadata",
                    "input_tokens",
                    "output_tokens",
                    "prompt_eval_count",
                    "done",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=200)
@given(st.sampled_from(KINDS), st.lists(JSON, max_size=4), st.booleans())
def test_json_of_any_shape_raises_nothing(kind: tuple[str, str], documents: list[object], is_streaming: bool) -> None:
    events = [orjson.dumps(document) for document in documents]
    framed = [event + b"\n" for event in events] if kind[0] == "ollama" else [b"data: " + e + b"\n\n" for e in events]

    observe(*kind, framed, is_streaming)
    observe(*kind, events, is_streaming)


@pytest.mark.parametrize(
    ("name", "operation", "preamble", "first"),
    [
        (
            "openai",
            "chat",
            OPENAI_CHAT.split(b": ping")[0],
            b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n',
        ),
        ("openai", "chat", b"", b'data: {"choices":[{"index":0,"delta":{"reasoning":"x"}}]}\n\n'),
        ("openai", "chat", b"", b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}\n\n'),
        ("openai", "chat", b"", b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'),
        ("openai", "completions", b"", b'data: {"choices":[{"index":0,"text":"x","finish_reason":null}]}\n\n'),
        ("openai", "chat", b": OPENROUTER PROCESSING\n\n", b'data: {"something":"new"}\n\n'),
        (
            "openai",
            "responses",
            RESPONSES.split(b"event: response.output_text")[0],
            RESPONSES.split(b"\n\n")[2] + b"\n\n",
        ),
        ("anthropic", "chat", ANTHROPIC.split(b"event: content_block_delta")[0], ANTHROPIC.split(b"\n\n")[3] + b"\n\n"),
        ("anthropic", "chat", b"", b'event: new_kind\ndata: {"type":"new_kind"}\n\n'),
        (
            "gemini",
            "stream_generate",
            b'data: {"usageMetadata":{"promptTokenCount":1}}\n\n',
            GEMINI.split(b"\r\n\r\n")[0] + b"\n\n",
        ),
        (
            "ollama",
            "chat",
            b'{"model":"m","message":{"role":"assistant","content":""},"done":false}\n',
            OLLAMA.splitlines(True)[0],
        ),
        ("ollama", "generate", b'{"model":"m","response":"","done":false}\n', b'{"response":"x","done":false}\n'),
        ("native", "chat", b"", NATIVE.split(b"\n\n")[0] + b"\n\n"),
    ],
)
def test_preamble_is_no_output_and_the_first_piece_is(name: str, operation: str, preamble: bytes, first: bytes) -> None:
    observer = FORMATS[name].observer(FORMATS[name].operation(operation), True)

    observer.feed(preamble)
    before = observer.has_output
    observer.feed(first)

    assert (before, observer.has_output) == (False, True)


@pytest.mark.parametrize(
    ("name", "operation", "event", "message"),
    [
        ("openai", "chat", b'data: {"error":{"message":"too busy","type":"server_error"}}\n\n', "too busy"),
        (
            "openai",
            "responses",
            b'event: error\ndata: {"type":"error","code":"x","message":"too busy"}\n\n',
            "too busy",
        ),
        ("openai", "responses", b'data: {"type":"response.failed","response":{"error":{"message":"no"}}}\n\n', "no"),
        (
            "anthropic",
            "chat",
            b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
            "overloaded_error",
        ),
        ("gemini", "stream_generate", b'data: {"error":{"code":503,"message":"too\\nbusy"}}\r\n\r\n', "too busy"),
        ("ollama", "chat", b'{"error":"too busy"}\n', "too busy"),
        ("native", "chat", b'event: error\ndata: {"error":{"code":"x","message":"too busy"}}\n\n', "too busy"),
    ],
)
@pytest.mark.parametrize("is_settled", [False, True])
def test_error_within_a_stream_is_told_and_is_no_output(
    name: str, operation: str, event: bytes, message: str, is_settled: bool
) -> None:
    stream = next(stream for format_name, kind, stream in STREAMS if (format_name, kind) == (name, operation))
    lead = {"openai": 4, "anthropic": 5, "gemini": 2, "ollama": 2, "native": 1}[name] if is_settled else 0
    mark = b"\n" if name == "ollama" else b"\r\n\r\n" if name == "gemini" else b"\n\n"
    begun = mark.join(stream.split(mark)[:lead]) + (mark if lead else b"")

    observer = observe(name, operation, [begun, event] if begun else [event])

    assert observer.error == message
    assert observer.has_output == is_settled
    if "failed" not in event.decode():
        assert not observer.is_complete


@pytest.mark.parametrize(("name", "operation", "stream"), STREAMS)
def test_stream_cut_before_its_end_is_incomplete(name: str, operation: str, stream: bytes) -> None:
    marker = {"openai": b"stop", "anthropic": b"message_stop", "gemini": b"STOP", "ollama": b"done_reason"}
    end = (
        stream.find(marker.get(name, b"event: done"))
        if operation != "responses"
        else stream.find(b"response.completed")
    )

    assert not observe(name, operation, [stream[:end]]).is_complete


def test_stream_is_incomplete_while_one_of_two_choices_is_open() -> None:
    def chunk(index: int, reason: bytes) -> bytes:
        return b'data: {"choices":[{"index":%d,"delta":{"content":"x"},"finish_reason":%b}]}\n\n' % (index, reason)

    half = [chunk(0, b"null"), chunk(0, b"null"), chunk(1, b"null"), chunk(0, b"null"), chunk(0, b'"stop"')]

    assert not observe("openai", "chat", half).is_complete
    assert observe("openai", "chat", [*half, chunk(1, b'"length"')]).is_complete


def test_text_that_looks_like_markers_is_not_taken_for_them() -> None:
    event = (
        b'data: {"choices":[{"index":0,"delta":{"content":"[DONE] \\"usage\\":{\\"prompt_tokens\\":1} '
        b'\\"error\\":\\"x\\""},"finish_reason":null}]}\n\n'
    )

    observer = observe("openai", "chat", [event, event])

    assert seen(observer) == (True, False, None, None, None)


def test_learned_chunk_does_not_hide_the_end() -> None:
    chunks = OPENAI_CHAT.split(b"\n\n")
    repeated = [chunk + b"\n\n" for chunk in [*chunks[:3], *[chunks[3]] * 50, *chunks[4:-1]]]

    observer = observe("openai", "chat", repeated)

    assert observer.is_complete
    assert observer.usage == Usage(9, 4, cache_read_tokens=3, reasoning_tokens=2)


def test_prompt_that_gemini_blocked_is_complete() -> None:
    observer = observe("gemini", "stream_generate", [b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\r\n\r\n'])

    assert (observer.has_output, observer.is_complete) == (True, True)


def test_gemini_usage_of_a_cut_stream_is_the_newest() -> None:
    observer = FORMATS["gemini"].observer(FORMATS["gemini"].operation("stream_generate"), True)

    for event in GEMINI.split(b"\r\n\r\n")[:2]:
        observer.feed(event + b"\r\n\r\n")

    assert observer.usage == Usage(9, 2)


def test_json_array_of_gemini_is_read_as_a_whole() -> None:
    events = [event.removeprefix(b"data: ") for event in GEMINI.split(b"\r\n\r\n")[:3]]
    array = b"[" + b",\r\n".join(events) + b"]"

    observer = observe("gemini", "stream_generate", [array[:50], array[50:]])

    assert seen(observer) == (True, True, None, Usage(9, 4, cache_read_tokens=3, reasoning_tokens=2), "gemini-x")


@pytest.mark.parametrize(
    ("name", "operation", "body", "usage"),
    [
        ("openai", "chat", b'{"model":"m","usage":{"prompt_tokens":1,"completion_tokens":2}}', Usage(1, 2)),
        ("openai", "embeddings", b'{"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}', Usage(1)),
        ("openai", "chat", b'{"model":"m","usage":{"prompt_tokens":0,"input_tokens":7}}', Usage(0)),
        (
            "openai",
            "chat",
            b'{"model":"m","usage":{"prompt_tokens":null,"input_tokens":7,"output_tokens":2}}',
            Usage(None, 2),
        ),
        ("openai", "chat", b'{"model":"m","usage":{"prompt_tokens":true,"completion_tokens":-1}}', None),
        ("anthropic", "chat", b'{"model":"m","usage":{"input_tokens":1,"output_tokens":2}}', Usage(1, 2)),
        ("anthropic", "count_tokens", b'{"model":"m","input_tokens":1}', Usage(1)),
        ("gemini", "generate", b'{"modelVersion":"m","usageMetadata":{"promptTokenCount":1}}', Usage(1)),
        ("ollama", "chat", b'{"model":"m","done":true,"prompt_eval_count":1,"eval_count":2}', Usage(1, 2)),
        ("native", "chat", b'{"model":"m","usage":{"inputTokens":1,"outputTokens":2}}', Usage(1, 2)),
    ],
)
def test_whole_reply_tells_usage_and_model(name: str, operation: str, body: bytes, usage: Usage) -> None:
    observer = observe(name, operation, [body[:9], body[9:]], is_streaming=False)

    assert seen(observer) == (True, True, None, usage, "m")
    assert not observe(name, operation, [body[:-1]], is_streaming=False).is_complete


def test_compressed_reply_is_left_to_http() -> None:
    observer = observe("openai", "chat", [b"\x1f\x8b\x08rubbish"], is_streaming=False)

    assert (observer.is_complete, observer.usage) == (True, None)


def test_large_reply_is_not_kept_and_its_usage_is_found_at_the_end() -> None:
    part = b"x" * 65536
    body = [
        b'{"choices":[{"message":{"content":"',
        *[part] * 40,
        b'"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
    ]
    observer = FORMATS["openai"].observer(FORMATS["openai"].operation("chat"), False)

    most = 0
    for piece in body:
        observer.feed(piece)
        most = max(most, len(b"".join(observer._parts)))  # type: ignore[attr-defined]  # white box: the memory bound
    observer.finish()

    assert most <= WHOLE_LIMIT_BYTES + len(part)
    assert (observer.is_complete, observer.usage) == (True, Usage(1, 2))


def test_huge_event_is_passed_over_and_the_stream_goes_on() -> None:
    head = b'data: {"candidates":[{"content":{"parts":[{"inlineData":"'
    tail = b'"}]},"index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":7}}\n\n'
    pieces = [head, *[b"x" * 65536] * 40, tail, b'data: {"candidates":[{"finishReason":"STOP","index":0}]}\n\n']
    observer = FORMATS["gemini"].observer(FORMATS["gemini"].operation("stream_generate"), True)

    most = 0
    for piece in pieces:
        observer.feed(piece)
        most = max(most, len(observer._held))  # type: ignore[attr-defined]  # white box: the memory bound
    observer.finish()

    assert most <= EVENT_LIMIT_BYTES + 65536
    assert (observer.has_output, observer.is_complete, observer.usage) == (True, True, Usage(1, 7))
    assert seen(observe("gemini", "stream_generate", [b"".join(pieces)])) == seen(observer)
