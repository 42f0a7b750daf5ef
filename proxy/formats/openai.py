"""The OpenAI format: chat, legacy completions, responses, embeddings and the list of models."""

import base64
import struct
from collections.abc import Sequence
from typing import Final

from proxy.errors import ProxyError, TranslationUnsupported
from proxy.exchange import JsonObject, Operation
from proxy.formats import openai_chat, openai_responses
from proxy.formats.base import Format, Intent, StreamReader, StreamWriter
from proxy.formats.error_kinds import kind_of_error
from proxy.formats.fields import as_count, as_list, require_model, require_stream
from proxy.formats.json_body import dump
from proxy.formats.neutral import ChatRequest, Completion, ReplyFacts
from proxy.formats.observing import JsonObserver
from proxy.formats.openai_observers import ChatObserver, ResponsesObserver
from proxy.formats.openai_usage import read_whole
from proxy.formats.paths import last_segment, quote_segment
from proxy.formats.sse import write_event
from proxy.sink import ResponseObserver
from proxy.usage import Usage

OPERATIONS: Final = (
    Operation("openai", "chat", "POST", "/v1/chat/completions", streams=True),
    Operation("openai", "completions", "POST", "/v1/completions", streams=True),
    Operation("openai", "responses", "POST", "/v1/responses", streams=True),
    Operation("openai", "embeddings", "POST", "/v1/embeddings"),
    Operation("openai", "models", "GET", "/v1/models", reads_body=False),
    Operation("openai", "model", "GET", "/v1/models/{model}", reads_body=False),
)
TEXT_OPERATIONS: Final = ("chat", "completions", "responses")


class OpenAIFormat(Format):
    """What the OpenAI SDKs and compatible servers speak."""

    name = "openai"
    operations = OPERATIONS

    def interpret(self, operation: Operation, path_model: str | None, document: JsonObject | None) -> Intent:
        """Read model, stream and the limit on output."""
        if document is None:
            return path_model, False, None
        get = document.get
        model, stream = get("model"), get("stream")
        if model.__class__ is not str or not model:
            model = require_model(document)
        is_streaming = stream is not None and operation.streams
        if is_streaming:
            is_streaming = stream if stream.__class__ is bool else require_stream(document)
        if operation.name == "responses":
            return model, is_streaming, as_count(document.get("max_output_tokens"))
        return model, is_streaming, openai_chat.read_max_tokens(document)

    def upstream_path(self, operation: Operation, model: str | None, raw_path: bytes | None = None) -> bytes:
        """Return the client's path without `/v1`, which `baseUrl` has."""
        if operation.name == "model" and model is not None:
            return b"/models/" + quote_segment(model, last_segment(raw_path), safe="/")
        return operation.path.removeprefix("/v1").encode()

    def observer(self, operation: Operation, is_streaming: bool) -> ResponseObserver:
        """Watch chunks, events of the responses API, or a JSON body."""
        if not is_streaming:
            return JsonObserver(read_whole)
        return ResponsesObserver() if operation.name == "responses" else ChatObserver()

    def error_body(self, error: ProxyError, request_id: str) -> bytes:
        """Write `{"error": {message, type, param, code}}`."""
        return dump({"error": self._error(error, request_id)})

    def error_event(self, operation: Operation, error: ProxyError, request_id: str) -> bytes:
        """Write an event with a top-level `error`, from which the SDK raises; the responses API names it besides."""
        fields = self._error(error, request_id)
        if operation.name != "responses":
            return write_event(dump({"error": fields}))
        event = {"type": "error", "code": fields["code"], "message": fields["message"], "param": None}
        return write_event(dump(event | {"sequence_number": 0, "error": fields}), "error")

    def _error(self, error: ProxyError, request_id: str) -> JsonObject:
        fields: JsonObject = {
            "message": error.message,
            "type": kind_of_error(error).openai_type,
            "param": "model" if error.code == "model_not_found" else None,
            "code": "invalid_api_key" if error.code == "unauthorized" else error.code,
            "request_id": request_id,
        }
        if error.provider is not None:
            fields["provider"] = error.provider
        return fields

    def read_request(self, operation: Operation, document: JsonObject) -> ChatRequest:
        """Read a request of one of the text operations."""
        self._check_text(operation)
        if operation.name == "responses":
            return openai_responses.read_responses(document)
        if operation.name == "completions":
            return openai_chat.read_completions(document)
        return openai_chat.read_chat(document)

    def write_request(self, chat: ChatRequest) -> tuple[str, JsonObject]:
        """Write a chat request."""
        return "chat", openai_chat.write_chat(chat)

    def read_reply(self, operation: Operation, body: bytes) -> Completion:
        """Read a whole reply."""
        self._check_text(operation)
        if operation.name == "responses":
            return openai_responses.read_responses_reply(body)
        return openai_chat.read_chat_reply(body)

    def write_reply(self, operation: Operation, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Write a whole reply."""
        self._check_text(operation)
        if operation.name == "responses":
            return openai_responses.write_responses_reply(completion)
        return openai_chat.write_chat_reply(completion, is_chat=operation.name == "chat")

    def stream_writer(self, operation: Operation, opening: Completion, include_usage: bool = False) -> StreamWriter:
        """Make a writer of chunks or of events of the responses API."""
        self._check_text(operation)
        if operation.name == "responses":
            return openai_responses.ResponsesWriter(opening)
        return openai_chat.ChatWriter(opening, operation.name == "chat", include_usage)

    def stream_reader(self, operation: Operation) -> StreamReader:
        """Make a reader of chunks or of events of the responses API."""
        self._check_text(operation)
        return openai_responses.ResponsesReader() if operation.name == "responses" else openai_chat.ChatReader()

    def _check_text(self, operation: Operation) -> None:
        if operation.name not in TEXT_OPERATIONS:
            raise TranslationUnsupported(f"{operation.path} is no conversation")

    def read_embedding_inputs(self, operation: Operation, document: JsonObject) -> list[str]:
        """Read `input`: a string, strings, token ids, or lists of those."""
        given = document.get("input")
        if isinstance(given, str):
            return [given]
        items = as_list(given)
        if items and all(isinstance(item, int) for item in items):
            return [" ".join(map(str, items))]
        return [item if isinstance(item, str) else " ".join(map(str, as_list(item))) for item in items]

    def write_embeddings(
        self,
        operation: Operation,
        vectors: Sequence[Sequence[float]],
        *,
        model: str,
        usage: Usage,
        document: JsonObject,
    ) -> bytes:
        """Write vectors as lists, or as base64 of little-endian float32 when `encoding_format` asks (the SDK does)."""
        as_base64 = document.get("encoding_format") == "base64"
        data: list[JsonObject] = []
        for index, vector in enumerate(vectors):
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if as_base64 else None
            data.append({"object": "embedding", "index": index, "embedding": packed or list(vector)})
        tokens = usage.input_tokens or 0
        counts = {"prompt_tokens": tokens, "total_tokens": tokens}
        return dump({"object": "list", "data": data, "model": model, "usage": counts})

    def write_models(self, names: Sequence[str], created_s: int) -> bytes:
        """Write the list of models."""
        return dump({"object": "list", "data": [self._model(name, created_s) for name in names]})

    def write_model(self, name: str, created_s: int) -> bytes:
        """Write one entry of the list."""
        return dump(self._model(name, created_s))

    def _model(self, name: str, created_s: int) -> JsonObject:
        return {"id": name, "object": "model", "created": created_s, "owned_by": "switchyard"}
