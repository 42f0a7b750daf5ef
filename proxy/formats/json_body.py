"""JSON bodies: parse them safely, change one value without touching the other bytes, write them."""

import json
import re
from typing import Any, Final

import orjson

from proxy.errors import MalformedBody
from proxy.exchange import JsonObject
from proxy.formats.fields import Json, kind_of

MODEL_KEY: Final = re.compile(
    rb'"(?:m|\\u006d)(?:o|\\u006f)(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006c)"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")',
    re.IGNORECASE | re.DOTALL,
)
MAX_PARSED_BYTES: Final = 8 * 1024 * 1024
"""JSON parsed in search of the top-level model (about 10 ms) before the body is written anew."""


def parse_object(body: bytes) -> JsonObject:
    """Parse a request body that must be a JSON object.

    A second top-level `model` is refused: this proxy would route by the one and the provider answer with the other.

    Raises:
        MalformedBody: not UTF-8, not JSON, too deep, not an object, or `model` given twice.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(_describe(error, body)) from None
    if not isinstance(document, dict):
        raise MalformedBody(f"the body must be a JSON object, got {kind_of(document)}")
    if body.count(b'"model"') > 1 or b"\\u006" in body:
        _refuse_two_models(body)
    return document


def _describe(error: orjson.JSONDecodeError, body: bytes) -> str:
    if not body.strip():
        return "the body is empty, a JSON object is needed"
    if body.startswith(b"\xef\xbb\xbf"):
        return "the body is not JSON: it begins with a byte order mark"
    return f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"


def _refuse_two_models(body: bytes) -> None:
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs, parse_int=_zero, parse_float=_zero)
    except (ValueError, RecursionError):
        raise MalformedBody("the body is not JSON, or nested too deeply") from None
    if sum(key == "model" for key, _ in pairs) > 1:
        raise MalformedBody("model: the field is given twice")


class _Pairs(list[tuple[str, Any]]):  # Any: JSON of whatever shape
    """An object as the list of its pairs, told from a JSON list by its type."""


def _zero(digits: str) -> int:
    """Numbers do not matter where only keys are looked at, and a very long one would raise."""
    return 0


def replace_model(body: bytes, document: JsonObject, model: str) -> bytes:
    """Change the value of the top-level `model` and no other byte.

    Args:
        body: as parsed into `document` by `parse_object`, so that `model` stands there once.
    Returns:
        The new body. If `model` is not there, or hidden among very many others, the document is written anew.
    """
    wanted = {**document, "model": model}
    value = dump(model)
    if "model" in document:
        for tried, match in enumerate(MODEL_KEY.finditer(body)):
            if tried and tried * len(body) > MAX_PARSED_BYTES:
                break
            changed = body[: match.start(1)] + value + body[match.end(1) :]
            if _parses_to(changed, wanted):
                return changed
    return dump(wanted)


def _parses_to(body: bytes, wanted: JsonObject) -> bool:
    try:
        return bool(orjson.loads(body) == wanted)
    except orjson.JSONDecodeError:
        return False


def dump(document: Json) -> bytes:
    """Write JSON; what is no Unicode in a text (lone surrogates) becomes `?` rather than an error."""
    try:
        return orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError):
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
