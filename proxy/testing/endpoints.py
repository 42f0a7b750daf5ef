"""The paths a fake provider serves: which format each speaks, what it requires, how its answers look; pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from proxy.exchange import JsonObject
from proxy.testing.answers import Answer
from proxy.testing.shapes import anthropic, gemini, ollama, openai, responses
from proxy.testing.shapes.base import StreamShape, data_event, named_event

Format = Literal["openai", "anthropic", "gemini", "ollama"]
Whole = Callable[[Answer, JsonObject], JsonObject]
Streamed = Callable[[Answer, JsonObject], StreamShape]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of one vendor. `whole` is None where only a stream is served, `streamed` where none is."""

    format: Format
    name: str
    method: str
    path: re.Pattern[str]
    required: tuple[str, ...] = ()
    whole: Whole | None = None
    streamed: Streamed | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not what the vendor takes."""

    format: Format
    status: int
    message: str


GEMINI_MODEL = r"/(?:v1|v1beta|v1alpha)/(?:models|tunedModels)/(?P<model>[^:]+):"


def _endpoint(
    format: Format,
    name: str,
    path: str,
    required: Sequence[str] = (),
    whole: Whole | None = None,
    streamed: Streamed | None = None,
) -> Endpoint:
    method = "POST" if required else "GET"
    return Endpoint(format, name, method, re.compile(path), tuple(required), whole, streamed)


ENDPOINTS: Final = (
    _endpoint("openai", "chat", "/v1/chat/completions", ("model", "messages"), openai.chat, openai.chat_stream),
    _endpoint(
        "openai", "completions", "/v1/completions", ("model", "prompt"), openai.completion, openai.completion_stream
    ),
    _endpoint("openai", "embeddings", "/v1/embeddings", ("model", "input"), openai.embeddings),
    _endpoint("openai", "responses", "/v1/responses", ("model", "input"), responses.response, responses.stream),
    _endpoint("openai", "models", "/v1/models"),
    _endpoint(
        "anthropic",
        "messages",
        "/v1/messages",
        ("model", "messages", "max_tokens"),
        anthropic.message,
        anthropic.message_stream,
    ),
    _endpoint("anthropic", "count_tokens", "/v1/messages/count_tokens", ("model", "messages"), anthropic.count_tokens),
    _endpoint("gemini", "generate", GEMINI_MODEL + "generateContent", ("contents",), gemini.generate),
    _endpoint("gemini", "count_tokens", GEMINI_MODEL + "countTokens", ("contents",), gemini.count_tokens),
    _endpoint("gemini", "stream", GEMINI_MODEL + "streamGenerateContent", ("contents",), None, gemini.stream),
    _endpoint("gemini", "models", "/(?:v1beta|v1alpha)/models"),
    _endpoint("ollama", "chat", "/api/chat", ("model", "messages"), ollama.chat, ollama.chat_stream),
    _endpoint("ollama", "generate", "/api/generate", ("model",), ollama.generate, ollama.generate_stream),
    _endpoint("ollama", "models", "/api/tags"),
)


def guess_format(path: str, header_names: set[str]) -> Format:
    """Tell in which format a request expects its errors."""
    if "anthropic-version" in header_names or path.startswith("/v1/messages"):
        return "anthropic"
    if "x-goog-api-key" in header_names or path.startswith(("/v1beta", "/v1alpha", "/v1/models/")):
        return "gemini"
    return "ollama" if path.startswith("/api/") else "openai"


def find_endpoint(method: str, path: str) -> tuple[Endpoint, str | None] | None:
    """Find what serves a path, and the model that the path names."""
    for endpoint in ENDPOINTS:
        if endpoint.method == method and (match := endpoint.path.fullmatch(path)):
            return endpoint, match.groupdict().get("model")
    return None


def check_document(endpoint: Endpoint, document: object) -> str | None:
    """Say what the vendor would miss in a body, None if nothing."""
    if not endpoint.required:
        return None
    if not isinstance(document, dict):
        return "the body is not a JSON object"
    missing = [key for key in endpoint.required if key not in document]
    return f"missing: {', '.join(missing)}" if missing else None


def is_streaming(endpoint: Endpoint, document: JsonObject) -> bool:
    """Tell whether a stream is asked for; Ollama's default is yes."""
    if endpoint.whole is None or endpoint.streamed is None:
        return endpoint.whole is None
    return bool(document.get("stream", endpoint.format == "ollama"))


def provider_entry(url: str, format: Format, settings: JsonObject) -> JsonObject:
    """Describe a server as an entry of `providers:`, for all models unless the settings say otherwise.

    Args:
        url: scheme, host and port.
    """
    return {"type": format, "baseUrl": f"{url}/v1" if format == "openai" else url, "models": ["*"], **settings}


def list_models(format: Format, names: tuple[str, ...]) -> JsonObject:
    """Build the list of models of a format."""
    build = {"openai": openai.models, "anthropic": anthropic.models, "gemini": gemini.models, "ollama": ollama.tags}
    return build[format](names)


def error_body(format: Format, status: int, message: str) -> JsonObject:
    """Build the error body of a format."""
    build = {"openai": openai.error, "anthropic": anthropic.error, "gemini": gemini.error, "ollama": ollama.error}
    return build[format](status, message)


def error_event(endpoint: Endpoint, message: str) -> bytes:
    """Build the event that a stream of this endpoint fails with."""
    if endpoint.name == "responses":
        return named_event(responses.error_event(message))
    if endpoint.format == "anthropic":
        return b"event: error\n" + data_event(anthropic.error(529, message))
    if endpoint.format == "ollama":
        return ollama.line_error(message)
    return data_event(error_body(endpoint.format, 500, message))
