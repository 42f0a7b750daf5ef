"""Reading fields of JSON from elsewhere, where anything may be missing or of the wrong type."""

from typing import Any

from proxy.errors import MalformedBody
from proxy.exchange import JsonObject
from proxy.usage import Usage

Json = Any  # Any: a value of JSON from elsewhere, of whatever shape


def as_object(value: Json) -> JsonObject:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Json) -> str | None:
    """Return the value if it is a string."""
    return value if isinstance(value, str) else None


def as_count(value: Json) -> int | None:
    """Return the value if it is a whole number from 0 up; a boolean is none."""
    return value if value.__class__ is int and value >= 0 else None


def as_number(value: Json) -> float | None:
    """Return the value if it is a number; a boolean is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_strings(value: Json) -> list[str]:
    """Return the strings of a list, or the one string that stands for a list."""
    if isinstance(value, str):
        return [value]
    return [item for item in as_list(value) if isinstance(item, str)]


def join_text(content: Json, separator: str = "") -> str:
    """Join the text of content that is a string, or a list of strings and of parts with a `text`."""
    if isinstance(content, str):
        return content
    texts = [part if isinstance(part, str) else as_text(as_object(part).get("text")) for part in as_list(content)]
    return separator.join(text for text in texts if text is not None)


def total(*counts: int | None) -> int | None:
    """Add the counts that are known; None if none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def known_usage(usage: Usage) -> Usage | None:
    """Return the usage, or None if it says nothing about input or output."""
    return None if usage.input_tokens is None and usage.output_tokens is None else usage


def require_model(document: JsonObject) -> str:
    """Read the top-level `model`. Raises MalformedBody if it is missing, empty or not a string."""
    model = document.get("model")
    if isinstance(model, str) and model:
        return model
    if "model" not in document:
        raise MalformedBody("model: the field is missing")
    found = "an empty string" if model == "" else kind_of(model)
    raise MalformedBody(f"model: a model's name is needed, got {found}")


def require_stream(document: JsonObject, default: bool = False) -> bool:
    """Read the top-level `stream`, null counting as absent. Raises MalformedBody if it is no boolean."""
    stream = document.get("stream")
    if stream is None:
        return default
    if isinstance(stream, bool):
        return stream
    raise MalformedBody(f"stream: true or false is needed, got {kind_of(stream)}")


def kind_of(value: Json) -> str:
    """Name the JSON type of a value, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def one_line(value: Json, limit: int = 500) -> str:
    """Describe a provider's error in one line: its message if it has one, cut to the limit in characters."""
    text = as_text(value) or as_text(as_object(value).get("message")) or as_text(as_object(value).get("type"))
    return " ".join((text or "the provider sent an error without a message").split())[:limit]
