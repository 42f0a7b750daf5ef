"""Whether the same request would get the same answer from the model again, as far as the request says so."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.exchange import JsonObject

ALWAYS: Final = frozenset({"embeddings", "embed", "embed_batch", "count_tokens"})
"""Operations in which nothing is drawn."""

PLACES: Final = ("generationConfig", "generation_config", "options")
"""Below which Gemini and Ollama have what others have at the top."""


def is_deterministic(operation: str, document: JsonObject | None) -> bool:
    """Tell whether nothing is drawn: a temperature of 0, or a seed; without either, providers take one near 1.

    Args:
        operation: its name, `chat` say.
        document: the request's JSON.
    """
    if operation in ALWAYS:
        return True
    parts = list(_parts(document or {}))
    if any(_is_number(part.get("seed")) for part in parts):
        return True
    temperatures = [part["temperature"] for part in parts if part.get("temperature") is not None]
    return bool(temperatures) and all(_is_number(each) and each == 0 for each in temperatures)


def _parts(document: JsonObject) -> Iterator[Mapping[str, Any]]:  # Any: the client's JSON
    yield document
    for place in PLACES:
        part = document.get(place)
        if isinstance(part, dict):
            yield part


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
