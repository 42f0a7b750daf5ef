"""The Anthropic format: messages, their token count and the list of models."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from proxy.errors import ProxyError, TranslationUnsupported
from proxy.exchange import JsonObject, Operation
from proxy.formats import anthropic_messages
from proxy.formats.anthropic_observer import MessagesObserver, read_whole
from proxy.formats.base import Format, Intent, StreamReader, StreamWriter
from proxy.formats.error_kinds import kind_of_error
from proxy.formats.fields import as_count, require_model, require_stream
from proxy.formats.json_body import dump
from proxy.formats.neutral import ChatRequest, Completion, ReplyFacts
from proxy.formats.observing import JsonObserver
from proxy.formats.paths import last_segment, quote_segment
from proxy.formats.sse import write_event
from proxy.sink import ResponseObserver

OPERATIONS: Final = (
    Operation("anthropic", "chat", "POST", "/v1/messages", streams=True),
    Operation("anthropic", "count_tokens", "POST", "/v1/messages/count_tokens"),
    Operation("anthropic", "models", "GET", "/v1/models", reads_body=False),
    Operation("anthropic", "model", "GET", "/v1/models/{model}", reads_body=False),
)


class AnthropicFormat(Format):
    """What the Anthropic SDKs speak."""

    name = "anthropic"
    operations = OPERATIONS

    def interpret(self, operation: Operation, path_model: str | None, document: JsonObject | None) -> Intent:
        """Read model, stream and the limit on output."""
        if document is None:
            return path_model, False, None
        is_streaming = operation.streams and require_stream(document)
        return require_model(document), is_streaming, as_count(document.get("max_tokens"))

    def upstream_path(self, operation: Operation, model: str | None, raw_path: bytes | None = None) -> bytes:
        """Return the path with its `/v1`, as `baseUrl` has none."""
        if operation.name == "model" and model is not None:
            return b"/v1/models/" + quote_segment(model, last_segment(raw_path))
        return operation.path.encode()

    def observer(self, operation: Operation, is_streaming: bool) -> ResponseObserver:
        """Watch the events of a message, or a JSON body."""
        return MessagesObserver() if is_streaming else JsonObserver(read_whole)

    def error_status(self, error: ProxyError) -> int:
        """Return Anthropic's own statuses for overload (529) and used-up budgets (402)."""
        return kind_of_error(error).anthropic_status or error.status

    def error_body(self, error: ProxyError, request_id: str) -> bytes:
        """Write `{type: error, error: {type, message, details}, request_id}`."""
        return dump(self._error(error, request_id))

    def error_event(self, operation: Operation, error: ProxyError, request_id: str) -> bytes:
        """Write `event: error`, from which the SDK raises."""
        return write_event(dump(self._error(error, request_id)), "error")

    def _error(self, error: ProxyError, request_id: str) -> JsonObject:
        details = {"error_code": error.code}
        if error.provider is not None:
            details["provider"] = error.provider
        fields = {"type": kind_of_error(error).anthropic_type, "message": error.message, "details": details}
        return {"type": "error", "error": fields, "request_id": request_id}

    def read_request(self, operation: Operation, document: JsonObject) -> ChatRequest:
        """Read a request, or what is to be counted."""
        return anthropic_messages.read_messages(document)

    def write_request(self, chat: ChatRequest) -> tuple[str, JsonObject]:
        """Write a request."""
        return "chat", anthropic_messages.write_messages(chat)

    def read_reply(self, operation: Operation, body: bytes) -> Completion:
        """Read a whole reply."""
        self._check_text(operation)
        return anthropic_messages.read_message(body)

    def write_reply(self, operation: Operation, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Write a whole reply."""
        self._check_text(operation)
        return anthropic_messages.write_message(completion)

    def stream_writer(self, operation: Operation, opening: Completion, include_usage: bool = False) -> StreamWriter:
        """Make a writer of the events of a message."""
        self._check_text(operation)
        return anthropic_messages.MessagesWriter(opening)

    def stream_reader(self, operation: Operation) -> StreamReader:
        """Make a reader of the events of a message."""
        self._check_text(operation)
        return anthropic_messages.MessagesReader()

    def _check_text(self, operation: Operation) -> None:
        if operation.name != "chat":
            raise TranslationUnsupported(f"{operation.path} is no conversation")

    def write_token_count(self, input_tokens: int) -> bytes:
        """Write `{input_tokens}`."""
        return dump({"input_tokens": input_tokens})

    def write_models(self, names: Sequence[str], created_s: int) -> bytes:
        """Write the list of models, as one page."""
        data = [self._model(name, created_s) for name in names]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return dump({"data": data, "has_more": False} | ends)

    def write_model(self, name: str, created_s: int) -> bytes:
        """Write one entry of the list."""
        return dump(self._model(name, created_s))

    def _model(self, name: str, created_s: int) -> JsonObject:
        created = datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = {"id": name, "type": "model", "display_name": name, "created_at": created}
        return fields | {"lifecycle": "active"}
