"""The Ollama format: chat, generate, embeddings, and what it tells of its models."""

from collections.abc import Sequence
from typing import Final

from proxy.errors import ProxyError, TranslationUnsupported
from proxy.exchange import JsonObject, Operation
from proxy.formats import ollama_chat
from proxy.formats.base import Format, Intent, StreamReader, StreamWriter
from proxy.formats.fields import as_count, as_object, as_strings, require_model, require_stream
from proxy.formats.json_body import dump
from proxy.formats.neutral import ChatRequest, Completion, ReplyFacts
from proxy.formats.observing import JsonObserver
from proxy.formats.ollama_observer import LinesObserver, read_whole
from proxy.sink import ResponseObserver
from proxy.usage import Usage

OPERATIONS: Final = (
    Operation("ollama", "chat", "POST", "/api/chat", streams=True),
    Operation("ollama", "generate", "POST", "/api/generate", streams=True),
    Operation("ollama", "embed", "POST", "/api/embed"),
    Operation("ollama", "embeddings", "POST", "/api/embeddings"),
    Operation("ollama", "model", "POST", "/api/show"),
    Operation("ollama", "models", "GET", "/api/tags", reads_body=False),
    Operation("ollama", "version", "GET", "/api/version", reads_body=False),
    Operation("ollama", "running", "GET", "/api/ps", reads_body=False),
)
VERSION: Final = "0.6.0"
"""Shown where nobody else can be asked: clients check that the API is recent enough."""
DIGEST: Final = "0" * 64


class OllamaFormat(Format):
    """What Ollama's clients speak; it streams unless told not to."""

    name = "ollama"
    operations = OPERATIONS
    stream_content_type = b"application/x-ndjson"

    def interpret(self, operation: Operation, path_model: str | None, document: JsonObject | None) -> Intent:
        """Read model, stream and the limit on output (a negative one means none); `/api/show` may say `name`."""
        if document is None:
            return None, False, None
        if operation.name == "model" and "model" not in document and "name" in document:
            document = document | {"model": document["name"]}
        is_streaming = operation.streams and require_stream(document, default=True)
        limit = as_count(as_object(document.get("options")).get("num_predict"))
        return require_model(document), is_streaming, limit

    def upstream_path(self, operation: Operation, model: str | None, raw_path: bytes | None = None) -> bytes:
        """Return the path as it is."""
        return operation.path.encode()

    def observer(self, operation: Operation, is_streaming: bool) -> ResponseObserver:
        """Watch lines, or a JSON body."""
        return LinesObserver() if is_streaming else JsonObserver(read_whole)

    def error_body(self, error: ProxyError, request_id: str) -> bytes:
        """Write `{"error": text, code}`."""
        fields = {"error": error.message, "code": error.code, "request_id": request_id}
        if error.provider is not None:
            fields["provider"] = error.provider
        return dump(fields)

    def error_event(self, operation: Operation, error: ProxyError, request_id: str) -> bytes:
        """Write a line, from which the client raises."""
        return self.error_body(error, request_id) + b"\n"

    def read_request(self, operation: Operation, document: JsonObject) -> ChatRequest:
        """Read a request."""
        self._check_text(operation)
        return ollama_chat.read_request(document, operation.name == "chat")

    def write_request(self, chat: ChatRequest) -> tuple[str, JsonObject]:
        """Write a chat request."""
        return "chat", ollama_chat.write_request(chat)

    def read_reply(self, operation: Operation, body: bytes) -> Completion:
        """Read a whole reply."""
        self._check_text(operation)
        return ollama_chat.read_reply(body)

    def write_reply(self, operation: Operation, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Write a whole reply."""
        self._check_text(operation)
        duration_ms = (facts.latency_ms if facts else None) or 0.0
        return ollama_chat.write_last(completion, completion.text, operation.name == "chat", duration_ms)

    def stream_writer(self, operation: Operation, opening: Completion, include_usage: bool = False) -> StreamWriter:
        """Make a writer of lines."""
        self._check_text(operation)
        return ollama_chat.LinesWriter(opening, operation.name == "chat")

    def stream_reader(self, operation: Operation) -> StreamReader:
        """Make a reader of lines."""
        self._check_text(operation)
        return ollama_chat.LinesReader()

    def _check_text(self, operation: Operation) -> None:
        if operation.name not in ("chat", "generate"):
            raise TranslationUnsupported(f"{operation.path} is no conversation")

    def read_embedding_inputs(self, operation: Operation, document: JsonObject) -> list[str]:
        """Read `input`, or `prompt` of the older operation."""
        return as_strings(document.get("prompt" if operation.name == "embeddings" else "input"))

    def write_embeddings(
        self,
        operation: Operation,
        vectors: Sequence[Sequence[float]],
        *,
        model: str,
        usage: Usage,
        document: JsonObject,
    ) -> bytes:
        """Write `embeddings`, or the one `embedding` of the older operation."""
        if operation.name == "embeddings":
            return dump({"embedding": list(vectors[0]) if vectors else []})
        embeddings = [list(vector) for vector in vectors]
        return dump({"model": model, "embeddings": embeddings, "prompt_eval_count": usage.input_tokens or 0})

    def write_models(self, names: Sequence[str], created_s: int) -> bytes:
        """Write the answer of `/api/tags`."""
        modified = ollama_chat.timestamp(created_s)
        details = self._details()
        return dump(
            {
                "models": [
                    {"name": name, "model": name, "modified_at": modified, "size": 0, "digest": DIGEST}
                    | {"details": details}
                    for name in names
                ]
            }
        )

    def write_model(self, name: str, created_s: int) -> bytes:
        """Write the answer of `/api/show`."""
        shown = {"modelfile": "", "parameters": "", "template": "", "details": self._details(), "model_info": {}}
        return dump(shown | {"modified_at": ollama_chat.timestamp(created_s), "capabilities": ["completion"]})

    def write_version(self) -> bytes:
        """Write the answer of `/api/version`."""
        return dump({"version": VERSION})

    def write_running(self) -> bytes:
        """Write the answer of `/api/ps`: nothing is loaded."""
        return dump({"models": []})

    def _details(self) -> JsonObject:
        empty = dict.fromkeys(("parent_model", "format", "family", "parameter_size", "quantization_level"), "")
        return empty | {"families": []}
