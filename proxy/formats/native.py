"""The native format of this proxy: `POST /` with a prompt or messages."""

from typing import Final

from proxy.errors import ProxyError
from proxy.exchange import JsonObject, Operation
from proxy.formats import native_request, native_stream
from proxy.formats.base import Format, Intent, StreamReader, StreamWriter
from proxy.formats.json_body import dump
from proxy.formats.neutral import ChatRequest, Completion, ReplyFacts
from proxy.formats.observing import JsonObserver
from proxy.formats.sse import write_event
from proxy.sink import ResponseObserver

OPERATIONS: Final = (Operation("native", "chat", "POST", "/", streams=True),)


class NativeFormat(Format):
    """What `curl` users of this proxy speak."""

    name = "native"
    operations = OPERATIONS

    def interpret(self, operation: Operation, path_model: str | None, document: JsonObject | None) -> Intent:
        """Check the whole request, as the native API is strict; the model may be left out."""
        chat = native_request.read_native(document or {})
        return chat.model, chat.is_streaming, chat.max_output_tokens

    def upstream_path(self, operation: Operation, model: str | None, raw_path: bytes | None = None) -> bytes:
        """Return `/`."""
        return b"/"

    def observer(self, operation: Operation, is_streaming: bool) -> ResponseObserver:
        """Watch a stream or a JSON body."""
        return native_stream.NativeObserver() if is_streaming else JsonObserver(native_stream.read_whole)

    def as_repeated(self, whole: bytes, trace_id: str, latency_ms: float) -> bytes | None:
        """Set `cached`, `latencyMs` and `traceId`."""
        return native_stream.write_repeated(whole, trace_id, latency_ms)

    def error_body(self, error: ProxyError, request_id: str) -> bytes:
        """Write `{"error": {code, message, requestId}}`."""
        fields = {"code": error.code, "message": error.message, "requestId": request_id}
        if error.provider is not None:
            fields["provider"] = error.provider
        return dump({"error": fields})

    def error_event(self, operation: Operation, error: ProxyError, request_id: str) -> bytes:
        """Write `event: error`."""
        return write_event(self.error_body(error, request_id), "error")

    def read_request(self, operation: Operation, document: JsonObject) -> ChatRequest:
        """Read a request, strictly. Raises MalformedBody."""
        return native_request.read_native(document)

    def write_request(self, chat: ChatRequest) -> tuple[str, JsonObject]:
        """Write a request."""
        document: JsonObject = {
            "messages": [
                {"role": role if role in native_request.ROLES else "user", "content": text}
                for role, text in chat.messages
            ],
            "system": chat.system,
            "model": chat.model,
            "maxTokens": chat.max_output_tokens,
            "temperature": chat.temperature,
            "topP": chat.top_p,
            "stop": chat.stop or None,
            "stream": True if chat.is_streaming else None,
        }
        return "chat", {key: value for key, value in document.items() if value is not None}

    def read_reply(self, operation: Operation, body: bytes) -> Completion:
        """Read a whole reply."""
        return native_stream.read_reply(body)

    def write_reply(self, operation: Operation, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Write a whole reply."""
        return native_stream.write_reply(completion, facts or ReplyFacts())

    def stream_writer(self, operation: Operation, opening: Completion, include_usage: bool = False) -> StreamWriter:
        """Make a writer of deltas."""
        return native_stream.NativeWriter()

    def stream_reader(self, operation: Operation) -> StreamReader:
        """Make a reader of deltas."""
        return native_stream.NativeReader()
