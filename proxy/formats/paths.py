"""Model names in paths: percent-encoding is kept as the client wrote it while the name is the same."""

from urllib.parse import quote, unquote_to_bytes


def last_segment(raw_path: bytes | None, marker: bytes = b"/models/") -> bytes:
    """Return what follows the first `marker` of a path; empty if there is none."""
    return raw_path.partition(marker)[2] if raw_path is not None else b""


def quote_segment(model: str, raw: bytes, safe: str = "") -> bytes:
    """Encode a model's name for a path.

    Args:
        raw: the encoded name that the client sent; returned as it is if it means the same.
        safe: characters left as they are besides letters, digits and `_.-~`.
    """
    if raw and unquote_to_bytes(raw) == model.encode("utf-8", "surrogatepass"):
        return raw
    return quote(model, safe=safe + ":@", errors="replace").encode()
