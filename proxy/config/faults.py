"""What pydantic found, turned into plain words with the value found and the limit; secret values are never shown."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from proxy.config.document import dotted
from proxy.config.shape import KeyPath, Shape
from proxy.errors import Fault
from proxy.values import printable

Words = Callable[[str, Mapping[str, Any]], str]  # Any: pydantic's context, numbers and text


def _limit(words: str, key: str) -> Words:
    return lambda shown, context: f"{shown} is not {words} {_number(context.get(key))}"


def _kind(words: str) -> Words:
    return lambda shown, _: f"{shown} is not {words}"


_WORDS: Mapping[str, Words] = {
    "missing": lambda _shown, _context: "is missing",
    "greater_than": _limit("above", "gt"),
    "greater_than_equal": _limit("at least", "ge"),
    "less_than": _limit("below", "lt"),
    "less_than_equal": _limit("at most", "le"),
    "finite_number": _kind("a finite number"),
    "literal_error": lambda shown, context: (
        f"{shown} is not one of {str(context.get('expected')).replace(chr(39), '')}"
    ),
    "string_pattern_mismatch": lambda shown, context: f"{shown} does not match {context.get('pattern')}",
    "string_too_short": lambda shown, context: f"{shown} is shorter than {context.get('min_length')} characters",
    "string_too_long": lambda shown, context: f"{shown} is longer than {context.get('max_length')} characters",
    "too_short": lambda _, context: f"has fewer than {context.get('min_length')} items",
    "too_long": lambda _, context: f"has more than {context.get('max_length')} items",
    "value_error": lambda shown, context: f"{shown} is refused: {context.get('error')}",
    "string_type": _kind("text"),
    "int_type": _kind("a whole number"),
    "int_parsing": _kind("a whole number"),
    "int_from_float": _kind("a whole number"),
    "int_parsing_size": _kind("a whole number that fits"),
    "float_type": _kind("a number"),
    "float_parsing": _kind("a number"),
    "bool_type": _kind("true or false"),
    "bool_parsing": _kind("true or false"),
    "dict_type": _kind("a mapping of names to values"),
    "model_type": _kind("a mapping of keys to values"),
    "model_attributes_type": _kind("a mapping of keys to values"),
    "list_type": _kind("a list"),
    "tuple_type": _kind("a list"),
}


def faults_of(errors: Iterable[ErrorDetails], shape: Shape, prefix: KeyPath = ()) -> list[tuple[KeyPath, Fault]]:
    """Translate a validation error.

    Args:
        errors: what `ValidationError.errors()` gives.
        prefix: where in the document the validated model stands.
    Returns:
        Each fault, still without its line, with its path.
    """
    return [_fault(error, shape, prefix) for error in errors]


def _fault(error: ErrorDetails, shape: Shape, prefix: KeyPath) -> tuple[KeyPath, Fault]:
    path = (*prefix, *error["loc"])
    if path and path[-1] == "[key]":
        path = path[:-1]
        name = "it begins with a letter or digit, then letters, digits, '.', '_' or '-', 64 in all"
        return path, Fault(dotted(path), f"is no name: {name}")
    if error["type"] == "extra_forbidden":
        return path, unknown_key(path, shape)
    value = error["input"]
    secret = shape.is_secret(path, value)
    context = error.get("ctx", {})
    shown = show(value, secret=secret)
    words = _WORDS.get(error["type"])
    if words is None:
        message = f"{shown} is refused: {_lower(error['msg'])}"
    elif error["type"] == "value_error" and isinstance(value, dict | list | tuple):
        message = _lower(str(context.get("error")))
    else:
        message = words(shown, context)
    if secret and isinstance(value, str) and value:
        message = message.replace(value, "…")
    return path, Fault(dotted(path), printable(message, 300), None if secret else _scalar(value))


def unknown_key(path: KeyPath, shape: Shape, what: str = "is not a known key") -> Fault:
    """Name the nearest known key, if one is near."""
    near = nearest(str(path[-1]), shape.keys_at(path[:-1]))
    hint = f" (did you mean {near}?)" if near else ""
    return Fault(dotted(path), f"{what}{hint}")


def nearest(key: str, known: Iterable[str]) -> str | None:
    """Find what was probably meant: the same key in another spelling, else the most similar one."""
    by_case = {name.lower(): name for name in known}
    try:
        wanted = to_camel(key.replace("-", "_")).lower()
    except IndexError:  # pydantic's to_camel needs a letter
        return None
    found = difflib.get_close_matches(wanted[:80], by_case, n=1, cutoff=0.6)
    return by_case[found[0]] if found else None


def show(value: object, *, secret: bool = False) -> str:
    """Write a value for a message: short, on one line, and not at all if it is secret."""
    if secret:
        return "the value (not shown, it is secret)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return f'"{printable(value, 60)}"'
    try:
        return printable(orjson.dumps(value).decode(), 60)
    except TypeError:
        return f"a {type(value).__name__}"


def _scalar(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else None


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ").replace("Input should be", "it should be")
    return message[:1].lower() + message[1:]
