"""The JSON Schema of the configuration: for editors, for forms, and for whoever wants to know what changes live."""

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args, get_origin

import orjson
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from proxy.config.export import filled
from proxy.config.models import Settings
from proxy.config.patch import Json
from proxy.config.secrets import ID
from proxy.config.shape import Annotation, Shape, fields_of, members

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
REFERENCE: Final = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:[-?][^}]*)?\}"}
"""Text in which the environment is put in; what comes of it is checked by the program."""

DURATION: Final = {"type": "string", "pattern": r"^\s*([0-9.]+\s*(ms|s|m|h|d)?\s*)+$"}
SIZE: Final = {"type": "string", "pattern": r"^\s*[0-9.]+\s*([KMGTkmgt]?[Bb])?\s*$"}
UNITS: Final = {"duration": "seconds", "size": "bytes"}
SCALARS: Final[Mapping[object, str]] = {int: "integer", float: "number", bool: "boolean", str: "string"}
BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
BY_ID: Final = {"type": "object", "properties": {ID: {"type": "string"}}, "required": [ID]}
"""What stands for a secret in an export."""


def schema(shape: Shape, *, is_open: bool = False) -> Json:
    """Describe the whole document.

    Args:
        shape: the core's settings and the sections of loaded plugins.
        is_open: sections of plugins that are not loaded here are let pass.
    Returns:
        A JSON Schema, 2020-12. Each setting has `description`, `default`, and two members of ours: `live`, whether a
        change takes effect at once, and `unit`, seconds or bytes.
    """
    whole = _model(Settings)
    for name, model in shape.sections.items():
        whole["properties"][name] = {**_model(model), "description": (model.__doc__ or name).strip().partition("\n")[0]}
    whole["properties"]["$export"] = {"type": "object", "description": "Marks a whole document; see GET /config."}
    if is_open:
        whole["additionalProperties"] = {"type": ["object", "null"]}
    return {"$schema": DIALECT, "title": "Switchyard configuration", **whole}


def schema_text(shape: Shape) -> str:
    """Write the schema for editors, which know nothing of a user's own plugins: `conf/proxy.schema.json`."""
    return orjson.dumps(schema(shape, is_open=True), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _model(model: type[BaseModel]) -> Json:
    properties = {key: _field(field) for key, field in fields_of(model).items()}
    required = [key for key, field in fields_of(model).items() if field.is_required()]
    found: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": required} if required else found


def _field(field: FieldInfo) -> Json:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kind = extra.get("format")
    described: Json = {"description": field.description or ""}
    inner = _type(field.annotation, field, str(kind) if kind in UNITS else None)
    if inner.get("type") == "object" and "properties" in inner:
        return {**described, **_or_null(inner)}  # a group: its settings say the rest
    if kind in UNITS:
        described["unit"] = UNITS[str(kind)]
    default = filled(field)
    if default is not None:
        described["default"] = default
    return {**described, "live": extra.get("live", True) is True, **_or_null(inner)}


def _or_null(described: Json) -> Json:
    """Let a key be there without a value: then its default counts."""
    if "anyOf" in described:
        return {**described, "anyOf": [*described["anyOf"], {"type": "null"}]}
    if isinstance(described.get("type"), str) and "enum" not in described:
        return {**described, "type": [described["type"], "null"]}
    return {"anyOf": [described, {"type": "null"}]}


def _type(annotation: Annotation, field: FieldInfo | None = None, kind: str | None = None) -> Json:
    """Describe what may stand in a place."""
    parts = [part for part in members(annotation) if part is not type(None)]
    part = parts[0]
    if isinstance(part, type) and issubclass(part, BaseModel):
        return _model(part)
    origin, arguments = get_origin(part), get_args(part)
    if origin is Literal:
        return {"anyOf": [{"enum": list(arguments)}, REFERENCE]}
    if origin is dict:
        return {"type": "object", **_names(arguments[0]), "additionalProperties": _value(arguments[1])}
    if origin in (tuple, list):
        return {"type": "array", "items": _type(arguments[0])}
    if part is SecretStr:
        return {"anyOf": [{"type": "string"}, BY_ID], "writeOnly": True}
    return _scalar(part, field, kind, is_optional=len(parts) < len(members(annotation)))


def _value(annotation: Annotation) -> Json:
    """Describe the values of a mapping; text there may be secret by its name, as a header is."""
    described = _type(annotation)
    return {"anyOf": [described, BY_ID]} if described.get("type") == "string" else described


def _scalar(part: Annotation, field: FieldInfo | None, kind: str | None, *, is_optional: bool) -> Json:
    described: Json = {"type": SCALARS[part], **_bounds(field)}
    if part is str:
        return described
    others: list[Json] = []
    if kind is not None and "exclusiveMinimum" not in described:
        described["minimum"] = 0
    if kind == "duration":
        others = [DURATION, *([{"const": "none"}] if is_optional else [])]
    elif kind == "size":
        others = [SIZE]
    return {"anyOf": [described, *others, REFERENCE]}


def _bounds(field: FieldInfo | None) -> Json:
    found: Json = {}
    for bound in field.metadata if field is not None else ():
        for attribute, word in BOUNDS.items():
            if (limit := getattr(bound, attribute, None)) is not None:
                found[word] = limit
    return found


def _names(annotation: Annotation) -> Json:
    """Give the rule for the names of a mapping, if there is one."""
    for rule in getattr(annotation, "__metadata__", ()):
        pattern: Any = next((each.pattern for each in rule.metadata if hasattr(each, "pattern")), None)
        if pattern is not None:
            return {"propertyNames": {"pattern": pattern}}
    return {}
