"""Replies and streams of the native API."""

from proxy.exchange import JsonObject
from proxy.formats.base import StreamWriter
from proxy.formats.fields import as_count, as_object, as_text, known_usage, one_line
from proxy.formats.json_body import dump
from proxy.formats.neutral import FINISH_REASONS, Completion, ReplyFacts
from proxy.formats.observing import Readings, StreamObserver
from proxy.formats.openai_chat import parse_reply
from proxy.formats.reading import TextReader, settled
from proxy.formats.sse import EventSplitter, parse_event, write_event
from proxy.usage import Usage


def write_reply(completion: Completion, facts: ReplyFacts) -> bytes:
    """Write `{id, model, provider, response, usage, cached, latencyMs, traceId, finishReason}`."""
    usage = completion.usage
    return dump(
        {
            "id": completion.id,
            "model": completion.model,
            "provider": facts.provider,
            "response": completion.text,
            "usage": {
                "inputTokens": usage.input_tokens,
                "outputTokens": usage.output_tokens,
                "totalTokens": usage.total_tokens,
            },
            "cached": facts.is_cached,
            "latencyMs": None if facts.latency_ms is None else round(facts.latency_ms, 1),
            "traceId": facts.trace_id,
            "finishReason": completion.finish_reason,
        }
    )


def write_repeated(whole: bytes, trace_id: str, latency_ms: float) -> bytes:
    """Write a whole reply anew that was kept from an earlier exchange."""
    document = parse_reply(whole)
    return dump({**document, "cached": True, "latencyMs": round(latency_ms, 1), "traceId": trace_id})


def read_usage(document: JsonObject) -> Usage | None:
    """Read `usage`."""
    usage = as_object(document.get("usage"))
    return known_usage(Usage(as_count(usage.get("inputTokens")), as_count(usage.get("outputTokens"))))


def read_whole(document: JsonObject) -> Readings:
    """Read what a whole reply says about itself."""
    error = document.get("error")
    return read_usage(document), as_text(document.get("model")), one_line(error) if error else None


def read_reply(body: bytes) -> Completion:
    """Read a whole reply."""
    document = parse_reply(body)
    reason = as_text(document.get("finishReason"))
    completion = Completion(
        id=as_text(document.get("id")) or "",
        model=as_text(document.get("model")) or "",
        text=as_text(document.get("response")) or "",
        finish_reason=reason if reason in FINISH_REASONS else "",
        usage=read_usage(document) or Usage(),
    )
    return settled(completion)


class NativeObserver(StreamObserver):
    """Watches a native stream; complete at `event: done`."""

    def is_dull(self, data: bytes) -> bool:
        """Tell whether there are only deltas."""
        return data.find(b"event:") < 0 and data.find(b'"error"') < 0

    def read_whole(self, document: JsonObject) -> Readings:
        """Read a reply that came as one JSON body."""
        return read_whole(document)

    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one event."""
        if name == "error" or document.get("error"):
            if not self.is_complete:
                self.error = self.error or one_line(document.get("error"))
            return
        self.has_output = True
        if name == "done":
            self.is_complete = True
            self.usage, self.served_model, _ = read_whole(document)
        self._is_settled = True


class NativeWriter(StreamWriter):
    """Writes deltas, and the whole reply as the last event."""

    def start(self) -> bytes:
        """Return nothing: a native stream has no preamble."""
        return b""

    def delta(self, text: str) -> bytes:
        """Return one delta."""
        return write_event(dump({"delta": text}))

    def finish(self, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Return `event: done` with the whole reply."""
        return write_event(write_reply(completion, facts or ReplyFacts()), "done")


class NativeReader(TextReader):
    """Reads deltas; the rest of the answer stands in the last event."""

    def __init__(self) -> None:
        super().__init__(EventSplitter())
        self._is_done = False

    def is_complete(self) -> bool:
        """Tell whether the last event came."""
        return self._is_done

    def read(self, event: bytes) -> list[str]:
        """Take in one event."""
        name, data = parse_event(event)
        if not data.strip():
            return []
        if name == "done":
            self._is_done = True
            self.result = read_reply(data)
            return []
        text = as_text(parse_reply(data).get("delta"))
        return [text] if text else []
