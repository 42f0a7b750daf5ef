"""The Gemini format: generateContent and its streams, token counts, embeddings and the list of models."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from proxy.errors import MalformedBody, ProxyError, TranslationUnsupported
from proxy.exchange import JsonObject, Operation
from proxy.formats import gemini_content
from proxy.formats.base import Format, Intent, StreamReader, StreamWriter
from proxy.formats.error_kinds import kind_of_error
from proxy.formats.fields import as_list, as_object
from proxy.formats.gemini_observer import GenerateObserver, read_whole
from proxy.formats.json_body import dump
from proxy.formats.neutral import ChatRequest, Completion, ReplyFacts
from proxy.formats.observing import JsonObserver
from proxy.formats.paths import quote_segment
from proxy.formats.sse import write_event
from proxy.sink import ResponseObserver
from proxy.usage import Usage

VERSIONS: Final = ("v1beta", "v1", "v1alpha")
"""The first is used for requests written here."""
COLLECTIONS: Final = ("models", "tunedModels")
METHODS: Final = (
    ("generate", "generateContent", False),
    ("stream_generate", "streamGenerateContent", True),
    ("count_tokens", "countTokens", False),
    ("embed", "embedContent", False),
    ("embed_batch", "batchEmbedContents", False),
)
OPERATIONS: Final = (
    *(
        Operation("gemini", name, "POST", f"/{version}/{collection}/{{model}}:{method}", streams=streams)
        for version in VERSIONS
        for collection in COLLECTIONS
        for name, method, streams in METHODS
    ),
    *(Operation("gemini", "models", "GET", f"/{version}/models", reads_body=False) for version in VERSIONS),
    *(
        Operation("gemini", "model", "GET", f"/{version}/{collection}/{{model}}", reads_body=False)
        for version in VERSIONS
        for collection in COLLECTIONS
    ),
)
ERROR_DETAIL: Final = "type.googleapis.com/google.rpc.ErrorInfo"
RETRY_DETAIL: Final = "type.googleapis.com/google.rpc.RetryInfo"


class GeminiFormat(Format):
    """What the Google GenAI SDKs speak. A model's name is without `models/`, but a tuned one's has `tunedModels/`."""

    name = "gemini"
    operations = OPERATIONS
    stream_content_type = b"text/event-stream"

    def interpret(self, operation: Operation, path_model: str | None, document: JsonObject | None) -> Intent:
        """Read the model from the path, streaming from the operation, the limit on output from the body."""
        if operation.name == "models":
            return None, False, None
        if not path_model:
            raise MalformedBody("model: the path names none")
        model = f"tunedModels/{path_model}" if "/tunedModels/" in operation.path else path_model
        return model, operation.streams, gemini_content.read_max_tokens(document or {})

    def upstream_path(self, operation: Operation, model: str | None, raw_path: bytes | None = None) -> bytes:
        """Return the client's path, the model exchanged if it is another; a stream written here adds `?alt=sse`."""
        if model is None or operation.name == "models":
            return operation.path.encode()
        parts = operation.path.split("/")
        _, colon, method = parts[3].partition(":")
        collection, slash, name = model.partition("/")
        if not slash or collection not in COLLECTIONS:
            collection, name = "models", model
        raw_name = b""
        if raw_path is not None and raw_path.count(b"/") >= 3:
            raw_name = raw_path.split(b"/", 3)[3]
            raw_name = self._without_method(raw_name, method) if colon else raw_name
        suffix = f"{colon}{method}" + ("?alt=sse" if operation.streams and raw_path is None else "")
        return f"/{parts[1]}/{collection}/".encode() + quote_segment(name, raw_name) + suffix.encode()

    def _without_method(self, raw: bytes, method: str) -> bytes:
        """Cut `:method` off; its colon may be percent-encoded."""
        for colon in (b":", b"%3A", b"%3a"):
            name, found, end = raw.rpartition(colon)
            if found and unquote_to_bytes(end) == method.encode():
                return name
        return b""

    def observer(self, operation: Operation, is_streaming: bool) -> ResponseObserver:
        """Watch events (or the JSON array sent without `alt=sse`), or a JSON body."""
        return GenerateObserver() if is_streaming else JsonObserver(read_whole, "usageMetadata")

    def error_body(self, error: ProxyError, request_id: str) -> bytes:
        """Write `{"error": {code, message, status, details}}`."""
        metadata = {"requestId": request_id}
        if error.provider is not None:
            metadata["provider"] = error.provider
        details: list[JsonObject] = [
            {"@type": ERROR_DETAIL, "reason": error.code, "domain": "switchyard", "metadata": metadata}
        ]
        if error.retry_after_s is not None:
            details.append({"@type": RETRY_DETAIL, "retryDelay": f"{error.retry_after_s:.3f}s"})
        status = kind_of_error(error).gemini_status
        fields = {"code": error.status, "message": error.message, "status": status, "details": details}
        return dump({"error": fields})

    def error_event(self, operation: Operation, error: ProxyError, request_id: str) -> bytes:
        """Write an event without a name, from which the SDK raises."""
        return write_event(self.error_body(error, request_id))

    def read_request(self, operation: Operation, document: JsonObject) -> ChatRequest:
        """Read a request; the model stands in the path and is left to the caller."""
        chat = gemini_content.read_content(document)
        chat.is_streaming = operation.streams
        return chat

    def write_request(self, chat: ChatRequest) -> tuple[str, JsonObject]:
        """Write a request; streaming is another operation, the model goes into `upstream_path`."""
        return "stream_generate" if chat.is_streaming else "generate", gemini_content.write_content(chat)

    def read_reply(self, operation: Operation, body: bytes) -> Completion:
        """Read a whole reply."""
        self._check_text(operation)
        return gemini_content.read_content_reply(body)

    def write_reply(self, operation: Operation, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Write a whole reply."""
        self._check_text(operation)
        return gemini_content.write_content_reply(completion)

    def stream_writer(self, operation: Operation, opening: Completion, include_usage: bool = False) -> StreamWriter:
        """Make a writer of events."""
        self._check_text(operation)
        return gemini_content.GenerateWriter(opening)

    def stream_reader(self, operation: Operation) -> StreamReader:
        """Make a reader of events."""
        self._check_text(operation)
        return gemini_content.GenerateReader()

    def _check_text(self, operation: Operation) -> None:
        if operation.name not in ("generate", "stream_generate"):
            raise TranslationUnsupported(f"{operation.path} is no conversation")

    def read_embedding_inputs(self, operation: Operation, document: JsonObject) -> list[str]:
        """Read `content`, or that of each of `requests`."""
        if operation.name == "embed":
            return [gemini_content.text_of(document.get("content"))]
        requests = map(as_object, as_list(document.get("requests")))
        return [gemini_content.text_of(request.get("content")) for request in requests]

    def write_embeddings(
        self,
        operation: Operation,
        vectors: Sequence[Sequence[float]],
        *,
        model: str,
        usage: Usage,
        document: JsonObject,
    ) -> bytes:
        """Write one `embedding`, or `embeddings` for the batch."""
        embeddings = [{"values": list(vector)} for vector in vectors]
        if operation.name == "embed":
            return dump({"embedding": embeddings[0] if embeddings else {"values": []}})
        return dump({"embeddings": embeddings})

    def write_token_count(self, input_tokens: int) -> bytes:
        """Write `{totalTokens}`."""
        return dump({"totalTokens": input_tokens})

    def write_models(self, names: Sequence[str], created_s: int) -> bytes:
        """Write the list of models, as one page."""
        return dump({"models": [self._model(name) for name in names]})

    def write_model(self, name: str, created_s: int) -> bytes:
        """Write one entry of the list."""
        return dump(self._model(name))

    def _model(self, name: str) -> JsonObject:
        full = name if name.startswith("tunedModels/") else f"models/{name}"
        methods = [method for _, method, _ in METHODS]
        return {"name": full, "displayName": name, "version": "1", "supportedGenerationMethods": methods}
