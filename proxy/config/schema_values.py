"""What may stand in the document for one value: numbers, flags, durations and sizes can be text as well."""

from typing import Final

from proxy.config.patch import Json

REFERENCE: Final = r"\$[{$]"
"""Text with `${…}` or `$$`: what it becomes is known only with the environment."""

UNITS: Final = {"duration": "seconds", "size": "bytes"}

_FLOAT: Final = r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_INTEGER: Final = r"[-+]?[0-9][0-9_]*(?:\.0*)?"
_DURATION: Final = rf"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d|w))+|{_FLOAT}"
_NONE: Final = "[nN][oO][nN][eE]"
_SIZE: Final = r"[0-9]+(?:\.[0-9]+)?\s*(?:[kKmMgG][iI]?)?[bB]|[0-9]+"
_FLAG: Final = "|".join(
    "".join(f"[{char}{char.upper()}]" if char.isalpha() else char for char in word)
    for word in ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
)

_TEXT_BOUNDS: Final = ("enum", "const", "pattern", "minLength", "maxLength")
_NOT_OF_VALUES: Final = ("title", "description", "default", "live", "format", "patternProperties")


def unit_of(node: Json) -> str | None:
    """Tell what a bare number means: seconds, bytes, or nothing but itself."""
    kinds = (node, *node.get("anyOf", ()))
    return next((UNITS[each["format"]] for each in kinds if each.get("format") in UNITS), None)


def value_schema(node: Json) -> Json:
    """Say of one kind of value what the loader takes for it.

    Args:
        node: as pydantic writes it, for the value after references were replaced and text was read; `format` is
            `duration`, `size`, or `timeout` for a duration that may be `none`.
    """
    kind, form = node.get("type"), node.get("format")
    kept = {key: value for key, value in node.items() if key not in _NOT_OF_VALUES}
    if any(key in node for key in _TEXT_BOUNDS):
        return _bounded_text(kept)
    if form == "size":
        return {"minimum": 0, **kept, "type": ["integer", "string"], "pattern": _text(_SIZE)}
    if form == "duration":
        lowest = {} if "exclusiveMinimum" in kept else {"minimum": 0}
        return {**lowest, **kept, "type": ["number", "string"], "pattern": _text(_DURATION)}
    if form == "timeout":
        return {"exclusiveMinimum": 0, **kept, "type": ["number", "string"], "pattern": _text(f"{_NONE}|{_DURATION}")}
    if kind == "boolean":
        return {**kept, "type": ["boolean", "integer", "string"], "minimum": 0, "maximum": 1, "pattern": _text(_FLAG)}
    if kind in ("integer", "number"):
        pattern = _text(_INTEGER if kind == "integer" else _FLOAT)
        return {**kept, "type": [kind, "string"], "pattern": pattern}
    return kept


def _text(pattern: str) -> str:
    return rf"{REFERENCE}|^\s*(?:{pattern})\s*$"


def _bounded_text(kept: Json) -> Json:
    """A reference has another length and other characters than what it stands for."""
    bounds = {key: value for key, value in kept.items() if key in (*_TEXT_BOUNDS, "type")}
    rest = {key: value for key, value in kept.items() if key not in bounds}
    if "enum" in bounds or "const" in bounds:
        bounds = {"enum": bounds.get("enum", [bounds.get("const")])}
    return {**rest, "anyOf": [bounds, {"type": "string", "pattern": REFERENCE}]}
