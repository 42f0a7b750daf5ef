"""Leaving out of a configuration what only repeats the defaults of its JSON Schema."""

from typing import Any

from proxy.values import parse_size, parse_timeout

JsonObject = dict[str, Any]  # Any: JSON


def without_defaults(document: JsonObject, schema: JsonObject) -> JsonObject:
    """Give the document without the keys whose value is their default.

    What the schema does not know stays, and so do the entries of a mapping with names of the operator's choice
    (`providers`, `models`): an entry without anything in it still is one.
    """
    return _Trimmer(schema).mapping(document, schema)


class _Trimmer:
    def __init__(self, schema: JsonObject) -> None:
        self._root = schema

    def mapping(self, value: JsonObject, schema: JsonObject) -> JsonObject:
        known = schema.get("properties") or {}
        required = schema.get("required") or ()
        kept: JsonObject = {}
        for key, item in value.items():
            if key not in known:
                kept[key] = self.value(item, _schema_of_chosen_name(schema))
                continue
            if key not in required and _is_default(item, known[key]):
                continue
            trimmed = self.value(item, known[key])
            means_absent = self._has_fixed_keys(known[key]) and known[key].get("default", {}) is not None
            if trimmed or key in required or not means_absent:
                kept[key] = trimmed
        return kept

    def value(self, value: Any, schema: JsonObject) -> Any:  # Any: JSON
        found = self._resolved(schema)
        return self.mapping(value, found) if isinstance(value, dict) else value

    def _has_fixed_keys(self, schema: JsonObject) -> bool:
        return "properties" in self._resolved(schema)

    def _resolved(self, schema: JsonObject) -> JsonObject:
        """Follow `$ref`, also inside of `allOf`, `anyOf` and `oneOf`, to the alternative that is a mapping."""
        for _ in range(16):  # a schema that refers to itself ends here
            if isinstance(reference := schema.get("$ref"), str):
                schema = self._at(reference)
                continue
            alternatives = [each for name in ("allOf", "anyOf", "oneOf") for each in schema.get(name) or ()]
            mappings = [each for each in alternatives if "$ref" in each or each.get("type") == "object"]
            if "properties" in schema or len(mappings) != 1:
                break
            schema = mappings[0]
        return schema

    def _at(self, reference: str) -> JsonObject:
        found: Any = self._root  # Any: JSON
        for key in reference.removeprefix("#/").split("/"):
            found = found.get(key, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}


def _schema_of_chosen_name(schema: JsonObject) -> JsonObject:
    """Give the schema of entries whose names the operator chooses; empty where there are none, or of several kinds."""
    others = [each for each in (schema.get("patternProperties") or {}).values() if isinstance(each, dict)]
    if isinstance(schema.get("additionalProperties"), dict):
        others.append(schema["additionalProperties"])
    return others[0] if len(others) == 1 else {}


def _is_default(value: object, schema: JsonObject) -> bool:
    if "default" not in schema:
        return False
    kind = schema.get("format")
    return _equal(_meaning(value, kind), _meaning(schema["default"], kind))


def _meaning(value: object, kind: object) -> object:
    """Read durations and sizes, so that `60s` is 60 and `none` is null."""
    try:
        if kind == "duration":
            return parse_timeout(value)
        return parse_size(value) if kind == "size" else value
    except ValueError:
        return value


def _equal(one: object, other: object) -> bool:
    """Compare JSON: unlike in Python, true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other
