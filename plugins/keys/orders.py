"""What operators send about keys: read, checked whole, and every fault named with its place."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from plugins.keys.settings import KeySettings
from proxy.errors import ConfigError, Fault, MalformedBody
from proxy.plugin import AdminRequest
from proxy.values import LATEST_S, parse_duration

EXPIRES_IN: Final = "expiresIn"

WORDS: Final = MappingProxyType(
    {
        "extra_forbidden": "is not a known key",
        "missing": "is missing",
        "string_type": "it should be text",
        "tuple_type": "it should be a list",
        "dict_type": "it should be a mapping of names to values",
        "model_type": "it should be a mapping of names to values",
        "bool_type": "it should be true or false",
        "bool_parsing": "it should be true or false",
        "float_type": "it should be a number",
        "float_parsing": "it should be a number",
    }
)
"""What pydantic says in words of Python."""

JsonObject = dict[str, Any]  # Any: JSON


class InvalidKey(ConfigError):
    """What was sent about a key cannot be used; `faults` lists everything wrong with it."""

    code = "invalid_key"


def read_settings(body: object, present: Mapping[str, object], now_s: float) -> KeySettings:
    """Read a new key's settings, or a change of a key's.

    Args:
        body: JSON; a merge patch (RFC 7396) over `present`. `expiresIn`, a duration, stands for `expiresAt`.
        present: what the key has; empty for a new one.
    Raises:
        MalformedBody: it is no JSON object.
        InvalidKey: it does not fit.
    """
    if not isinstance(body, dict):
        raise MalformedBody('a key is described by a JSON object, such as {"name": "team-a"}')
    patch = dict(body)
    if EXPIRES_IN in patch:
        if "expiresAt" in patch:
            raise invalid(EXPIRES_IN, "stands beside expiresAt: one of them is enough")
        patch["expiresAt"] = _moment_after(patch.pop(EXPIRES_IN), now_s)
    try:
        return KeySettings.model_validate(_merged(present, patch))
    except ValidationError as error:
        faults = [Fault(".".join(map(str, each["loc"])), _words(each["type"], each["msg"])) for each in error.errors()]
        raise InvalidKey("; ".join(f"{fault.path}: {fault.message}" for fault in faults), faults) from None


def read_grace(request: AdminRequest) -> float:
    """Read `?grace=`, how long the key before a rotation still works, in seconds. Raises InvalidKey."""
    check_query(request, "grace")
    try:
        return parse_duration(request.query.get("grace", 0.0))
    except ValueError as error:
        raise invalid("?grace", str(error)) from None


def check_query(request: AdminRequest, *known: str) -> None:
    """Take no parameter that means nothing here: it could have been meant to hold the call back. Raises InvalidKey."""
    for name in request.query:
        if name not in known:
            raise invalid(f"?{name[:64]}", "is not known here")


def invalid(path: str, message: str) -> InvalidKey:
    """Make the error of one fault."""
    return InvalidKey(f"{path}: {message}", [Fault(path, message)])


def _moment_after(value: object, now_s: float) -> float | None:
    if value is None:
        return None
    try:
        moment_s = float(int(now_s + parse_duration(value)))
    except ValueError as error:
        raise invalid(EXPIRES_IN, str(error)) from None
    if moment_s > LATEST_S:
        raise invalid(EXPIRES_IN, "is too far away")
    return moment_s


def _merged(present: Mapping[str, object], patch: JsonObject) -> JsonObject:
    """Merge (RFC 7396)."""
    merged = dict(present)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def _words(kind: str, message: str) -> str:
    return WORDS.get(kind) or message.removeprefix("Value error, ").replace("Input should", "it should")
