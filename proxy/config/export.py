"""The document as `GET /config` shows it: whole, defaults filled in, without secrets."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from proxy.config.loader import Loaded
from proxy.config.secrets import SecretStore, redact
from proxy.values import timestamp

MARKER = "$export"


def mark(shown: Mapping[str, Any], *, revision: int, time_s: float) -> dict[str, Any]:  # Any: JSON
    """Mark a whole document as one, so that the same document, sent back, has the same effect.

    Args:
        shown: with defaults filled in and ids where secrets stand.
        revision: the number of this configuration.
        time_s: when it is shown, seconds since 1970.
    Returns:
        The document with `{"$export": {"revision": int, "time": RFC 3339 str, "sections": [str, ...]}}` before it.
    """
    return {MARKER: {"revision": revision, "time": timestamp(time_s), "sections": list(shown)}, **shown}


def show(loaded: Loaded, store: SecretStore) -> dict[str, Any]:  # Any: JSON
    """Show a configuration: as the operator wrote it, references included, defaults filled in, no secrets."""
    return redact(effective(loaded), loaded.shape, store)


def effective(loaded: Loaded) -> dict[str, Any]:  # Any: JSON
    """Fill the defaults into the document as written; still with its secrets."""
    raw = loaded.document.raw
    document = _model(loaded.settings, raw)
    for name, section in loaded.sections.items():
        document[name] = _model(section, raw.get(name))
    return document


def _model(model: BaseModel, raw: object) -> dict[str, Any]:  # Any: JSON
    written: Mapping[str, object] = raw if isinstance(raw, dict) else {}
    shown = {}
    for name, field in type(model).model_fields.items():
        key = field.alias or name
        value = _value(getattr(model, name), written.get(key), field)
        if value is not None:
            shown[key] = value
    return shown


def _value(value: object, raw: object, field: FieldInfo | None) -> Any:  # Any: JSON
    if isinstance(value, BaseModel):
        return _model(value, raw)
    if isinstance(value, dict):
        written: Mapping[str, object] = raw if isinstance(raw, dict) else {}
        return {key: _value(item, written.get(key), None) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items: list[object] = raw if isinstance(raw, list) and len(raw) == len(value) else [None] * len(value)
        return [_value(item, written, None) for item, written in zip(value, items, strict=True)]
    if raw is not None:
        return raw
    return _default(value, field)


def _default(value: object, field: FieldInfo | None) -> object:
    """Write a default as YAML and JSON have it: null means "back to the default", so off is `none`."""
    if value is None:
        extra = field.json_schema_extra if field else None
        return "none" if isinstance(extra, dict) and extra.get("format") == "duration" else None
    if isinstance(value, SecretStr):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def filled(field: FieldInfo) -> Any:  # Any: JSON
    """Write the default of a setting as it is shown where nothing was written; None where there is none to show."""
    if field.is_required():
        return None
    return _value(field.get_default(call_default_factory=True), None, field)
