"""Taking secrets out of text and fields: by value, by the name they stand under, by how vendors' keys look."""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

import orjson

MASK: Final = "***"
MIN_SECRET_LENGTH: Final = 8
"""Shorter values are not looked for: they would take ordinary words out of every line."""
MAX_DEPTH: Final = 8
SHOWN_CHARS: Final = 4
MIN_CHARS_TO_SHOW: Final = 12
"""Of shorter keys nothing is shown: four characters would be too large a part."""
MAX_SECRETS: Final = 200
"""Each costs a search in every line that is logged."""

# Every pattern is linear in the text: no two repeated parts that could match the same characters stand side by side.
_SHAPES: Final = (
    re.compile(r"(?<![A-Za-z0-9])(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}"),
    re.compile(r"(?<![A-Za-z0-9])(?:gsk_|hf_|xai-|pplx-|ghp_|AKIA|AIza)[A-Za-z0-9_-]{16,}"),
    re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"),
)
_KEPT_FRONT: Final = (
    re.compile(r"\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE),
    re.compile(r"((?:authorization|cookie)[\\\"']{0,4}\s*[:=]\s*[\\\"']{0,4})[^\r\n\"'\\]+", re.IGNORECASE),
    re.compile(
        r"((?:(?:api|access|private|secret|signing|subscription)[-_]?key|token|secret|password|passwd)[\\\"']{0,4}\s*"
        r"(?:=|:(?=\s*[\\\"']{0,4}[^\s\"'\\]{6}))\s*[\\\"']{0,4})[^\s\"'\\&,;}\]]+",
        re.IGNORECASE,
    ),
    re.compile(r"([?&]key=)[^\s\"'\\&#]+", re.IGNORECASE),
)
_USERINFO: Final = re.compile(r"(://)[^/\s@\"'<>]{1,256}@")
_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:authorization|auth|token|secret|password|passwd|cookie|credentials?|apikey"
    r"|(?:api|access|private|secret|signing|subscription)_key)$"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def mask_of(text: str) -> str:
    """Write what people see in place of a credential: its last characters, or nothing of a short one."""
    return f"…{text[-SHOWN_CHARS:]}" if len(text) >= MIN_CHARS_TO_SHOW else "…"


def is_secret_name(name: str) -> bool:
    """Tell whether what stands under a name is secret: `X-Api-Key`, `apiKey`, `session_token`, not `max_tokens`."""
    return _SECRET_NAME.search(_CAMEL.sub("_", name[:200]).replace("-", "_").lower()) is not None


def forms_of(secret: str) -> set[str]:
    """List how a secret can stand in a text: as it is, URL-encoded, in JSON, and in Base64 at any offset."""
    forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    forms |= {re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in set(forms)}
    data = secret.encode("utf-8", "surrogatepass")
    forms.add(_in_json(secret))
    for offset in range(3):
        # Of the characters, keep those that depend on the secret alone, not on what stands before or behind it.
        encoded = base64.b64encode(bytes(offset) + data).decode()
        kept = encoded[-(-8 * offset // 6) : 8 * (offset + len(data)) // 6]
        forms |= {kept, kept.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= MIN_SECRET_LENGTH}


def _in_json(secret: str) -> str:
    try:
        return orjson.dumps(secret).decode()[1:-1]
    except orjson.JSONEncodeError:  # a lone surrogate, which JSON cannot hold
        return secret


class Redactor:
    """Knows the secrets of this process and takes them, and what looks like others, out of what is shown."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: dict[str, set[str]] = {}
        self._forms: tuple[str, ...] = ()
        self.register(*secrets)

    def register(self, *secrets: str) -> None:
        """Know more secrets from now on. Earlier ones stay known: a key that was rotated is still in somebody's log.

        Bounds: of more than `MAX_SECRETS` the ones registered longest ago are forgotten.
        """
        known = dict(self._known)
        for secret in secrets:
            if len(secret) >= MIN_SECRET_LENGTH:
                known[secret] = known.pop(secret) if secret in known else forms_of(secret)
        for secret in list(known)[:-MAX_SECRETS]:
            del known[secret]
        if known.keys() != self._known.keys():
            forms = set().union(*known.values())
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        self._known = known

    def text(self, text: str) -> str:
        """Give a text without secrets; takes time linear in its length."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        for shape in _SHAPES:
            text = shape.sub(MASK, text)
        for pattern in _KEPT_FRONT:
            text = pattern.sub(rf"\g<1>{MASK}", text)
        return _USERINFO.sub(rf"\g<1>{MASK}@", text)

    def value(self, value: object, name: str = "", depth: int = 0) -> object:
        """Give JSON-like data without secrets.

        Args:
            value: mappings, lists and scalars; anything else becomes its text.
            name: what it stands under; text under a secret name is masked whole.
        """
        if value is None or isinstance(value, bool | int | float):
            return value
        if name and is_secret_name(name):
            return MASK
        if depth >= MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item, str(key), depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item, "", depth + 1) for item in value]
        return self.text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
