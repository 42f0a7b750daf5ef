"""The whole document as a JSON Schema, for editors and for pages that offer settings."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import BaseModel, SecretStr
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticUndefined, to_jsonable_python

from proxy.config.export import MARKER
from proxy.config.models import Settings
from proxy.config.patch import Json
from proxy.config.schema_values import unit_of, value_schema
from proxy.config.shape import Annotation, Shape, child, model_of

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_ABOUT_MODELS: Final = ("description", "type", "required", "additionalProperties")

_OPEN: Final = {"type": ["object", "null"], "description": "Section of a plugin that is not built in."}


def schema(shape: Shape) -> Json:
    """Describe every place of the document.

    Where text is taken for a number or a flag, `pattern` says which; a `${NAME}` is taken anywhere. Beside the words
    of JSON Schema each setting carries `live`, false if it takes effect at the next start, and a duration or size
    carries `unit`, which a bare number has.

    Returns:
        It refuses no document that the program takes; it cannot know what the environment holds, nor which keys
        contradict each other.
    Source:
        JSON Schema, draft 2020-12.
    """
    models: list[type[BaseModel]] = [Settings, *shape.sections.values()]
    by_model, together = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    writer = _Writer(together.get("$defs", {}))
    whole = writer.value(by_model[Settings, "validation"], Settings, Settings(), True, ())
    for key, model in shape.sections.items():
        section = writer.value(by_model[model, "validation"], model, model(), True, ())
        whole["properties"][key] = {"description": f"Section of the plugin {key}.", **_nullable(section)}
    whole["properties"][MARKER] = {"type": "object", "description": "Marks a whole document, as GET /config gives it."}
    return {
        "$schema": DIALECT,
        "title": "Switchyard configuration",
        **_nullable(whole),
        "description": "What stands in conf/proxy.yaml, and in the document of /config.",
    }


def schema_text(shape: Shape) -> str:
    """Write the schema as it stands in `conf/proxy.schema.json`: sections of plugins it does not know are taken too."""
    return orjson.dumps({**schema(shape), "additionalProperties": _OPEN}, option=orjson.OPT_INDENT_2).decode() + "\n"


class _Writer:
    """Turns what pydantic writes, which is about values, into what is about the document.

    Args:
        definitions: the models, by the names that `$ref` uses.
    """

    def __init__(self, definitions: Mapping[str, Json]) -> None:
        self._definitions = definitions

    def value(self, node: Json, annotation: Annotation, instance: object, is_live: bool, path: tuple[str, ...]) -> Json:
        """Write what may stand in one place, models written out.

        Args:
            annotation: the type of the place, None where it is not known.
            instance: the model that is there by default, where there is one.
            path: names of the models around it: one that holds itself is left open inside.
        """
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name in path:
                return {"type": "object"}
            return self.value(self._definitions[name], annotation, instance, is_live, (*path, name))
        if "properties" in node:
            return self._model(node, annotation, instance, is_live, path)
        alternatives = node.get("anyOf", node.get("oneOf", ()))
        if alternatives:
            outer = {"format": "timeout"} if _is_timeout(node) else {}
            kinds = [{**each, **outer} for each in alternatives if each.get("type") != "null"]
            written = [self.value(each, annotation, instance, is_live, path) for each in kinds]
            return written[0] if len(written) == 1 else {"anyOf": written}
        whole = dict(node)
        if isinstance(items := node.get("items"), dict):
            whole["items"] = self.value(items, child(annotation, 0), None, is_live, path)
        for pattern, inner in node.get("patternProperties", {}).items():  # names that the model restricts
            whole |= {"propertyNames": {"pattern": pattern}, "additionalProperties": inner}
        if isinstance(inner := whole.get("additionalProperties"), dict):
            named = self.value(inner, child(annotation, "any"), None, is_live, path)
            whole["additionalProperties"] = _nullable(named)
        return value_schema(whole)

    def _model(
        self, node: Json, annotation: Annotation, instance: object, is_live: bool, path: tuple[str, ...]
    ) -> Json:
        model = model_of(annotation)
        fields = model.model_fields if model is not None else {}
        names = {field.alias or name: name for name, field in fields.items()}
        properties = {}
        for key, inner in node["properties"].items():
            field, default = fields.get(names.get(key, "")), PydanticUndefined
            if isinstance(instance, BaseModel) and type(instance) is model:
                default = getattr(instance, names[key])
            elif field is not None:
                default = field.get_default(call_default_factory=True, validated_data={})
            written = self._property(inner, field.annotation if field else None, default, is_live, path)
            properties[key] = written if key in node.get("required", ()) else _nullable(written)
        kept: Json = {
            key: node[key] for key in ("description", "type", "required", "additionalProperties") if key in node
        }
        return {**kept, "properties": properties}

    def _property(
        self, node: Json, annotation: Annotation, default: object, is_live: bool, path: tuple[str, ...]
    ) -> Json:
        is_live = is_live and node.get("live") is not False
        written = self.value(node, annotation, default, is_live, path)
        if "description" in node:
            written = {"description": node["description"], **_without(written, "description")}
        inner = written.get("additionalProperties")
        if "properties" in written:
            return written
        if not (isinstance(inner, dict) and "properties" in inner):
            written["live"] = is_live
        shown = "none" if default is None and _is_timeout(node) else _shown(default)
        if shown is not None:
            written["default"] = shown
        if unit := unit_of(node):
            written["unit"] = unit
        return written


def _is_timeout(node: Json) -> bool:
    """Tell a timeout, which may be `none`, from a duration that need not be given: its format is around both."""
    return "anyOf" in node and node.get("format") == "duration"


def _shown(value: object) -> Any:  # Any: JSON, None for what is not shown
    """Write a default as `GET /config` shows it; a secret is never one."""
    if value is None or value is PydanticUndefined or isinstance(value, SecretStr):
        return None
    if isinstance(value, BaseModel):
        fields = {name: field.alias or name for name, field in type(value).model_fields.items()}
        return {key: _shown(getattr(value, name)) for name, key in fields.items() if name in value.model_fields_set}
    if isinstance(value, dict):
        return {str(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown for item in value if (shown := _shown(item)) is not None]
    return int(value) if isinstance(value, float) and value.is_integer() else to_jsonable_python(value)


def _nullable(node: Json) -> Json:
    """Allow null, which means the default, at a key that need not be there."""
    if "anyOf" in node:
        return {**node, "anyOf": [*node["anyOf"], {"type": "null"}]}
    if "type" not in node:
        return node
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return {**node, "type": [*kinds, "null"]}


def _without(node: Json, key: str) -> Json:
    return {name: value for name, value in node.items() if name != key}
