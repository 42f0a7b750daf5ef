"""Naming a place in the configuration: `providers.openai.timeouts`, `models.gpt-4\\.1`, or `/models/gpt-4.1`."""

import re
from typing import Any

from proxy.cli.exits import REFUSED, USAGE, Failed

_KEY = re.compile(r"(?:\\.|[^.\\])+", re.DOTALL)


def split_place(text: str) -> tuple[str, ...]:
    """Take a place apart.

    Args:
        text: keys with dots between them, `\\.` for a dot inside of one; with a leading `/`, a JSON pointer (RFC 6901).
    Raises:
        Failed: it names nothing.
    """
    if text.startswith("/"):
        keys = tuple(key.replace("~1", "/").replace("~0", "~") for key in text[1:].split("/"))
    else:
        found = _KEY.findall(text)
        keys = tuple(re.sub(r"\\(.)", r"\1", key, flags=re.DOTALL) for key in found) if ".".join(found) == text else ()
    if not keys or not all(keys):
        raise Failed(f"{text!r} names no place: write keys with dots between them, as in cache.ttl", USAGE)
    return keys


def value_at(document: Any, text: str) -> Any:  # Any: JSON
    """Give what stands at a place.

    Raises:
        Failed: nothing does.
    """
    value = document
    for key in split_place(text):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise Failed(f"{text} is not set", REFUSED)
    return value
