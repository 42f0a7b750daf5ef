"""The text of a virtual key: how one is made, what is kept of it, and what people see in its place."""

import hashlib
import secrets
from typing import Final

PREFIX: Final = "sk-sw-"
"""Begins like the keys SDKs know, and tells whose it is to who finds one, and to whatever looks for leaked keys."""
ID_BYTES: Final = 5
SECRET_BYTES: Final = 32


def new_id() -> str:
    """Make the id of a key: 10 hexadecimal digits, not secret."""
    return secrets.token_hex(ID_BYTES)


def is_id(text: str) -> bool:
    """Tell whether it is written like an id."""
    return len(text) == 2 * ID_BYTES and all(each in "0123456789abcdef" for each in text)


def new_text(key_id: str) -> str:
    """Make a key: its id, so that people can tell whose it is, and 256 random bits."""
    return f"{PREFIX}{key_id}-{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(text: str) -> bytes:
    """Give what is kept of a key, and what a key that is shown is looked up by.

    A fast hash is enough: of 256 random bits nothing can be guessed, as it could of a password.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def shown(key_id: str) -> str:
    """Write what people see in place of a key: nothing of its secret."""
    return f"{PREFIX}{key_id}-…"
