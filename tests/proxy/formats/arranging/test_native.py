"""The native API's own two forms."""

import orjson
import pytest

from proxy.formats.neutral import Completion, ReplyFacts
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.usage import Usage
from tests.proxy.formats.streams import NATIVE

WIRE = FORMATS["native"]
OPERATION = WIRE.operation("chat")
WHOLE = Completion("1", "m-x", "héllo", usage=Usage(9, 4))
FACTS = ReplyFacts("p", latency_ms=1.0, trace_id="t")


def test_written_stream_and_written_reply_make_each_other() -> None:
    writer = WIRE.stream_writer(OPERATION, WHOLE)
    stream = writer.start() + writer.delta("héllo") + writer.finish(WHOLE, FACTS)
    reply = WIRE.write_reply(OPERATION, WHOLE, FACTS)

    assert rearrange(OPERATION, stream, is_streaming=False) == reply
    assert rearrange(OPERATION, reply, is_streaming=True) == stream
    assert rearrange(OPERATION, NATIVE, is_streaming=False) == reply


@pytest.mark.parametrize(
    "stream",
    [
        NATIVE.partition(b"event: done")[0],
        NATIVE.replace(b'{"delta":"llo"}', b'{"delta":"lo"}'),
        NATIVE.replace(b'{"delta":"llo"}', b'{"delta":"llo","more":1}'),
        NATIVE.replace(b'"finishReason":"stop"', b'"finishReason":""'),
        NATIVE.replace(b"event: done", b"event: error"),
        NATIVE + NATIVE,
        b"event: error\ndata: " + orjson.dumps({"error": {"code": "x"}}) + b"\n\n",
    ],
    ids=["cut", "a delta less", "unknown field", "no end", "no done", "twice", "error"],
)
def test_stream_that_is_cut_or_strange_is_no_reply(stream: bytes) -> None:
    assert rearrange(OPERATION, stream, is_streaming=False) is None
