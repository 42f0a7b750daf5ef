"""Names that many entries have alike, kept once: callers, models."""

from typing import Final

from plugins.cache.entry import SHARED_CHARS, Entry

MOST_NAMES: Final = 10_000
"""Then all are forgotten: entries keep theirs, later ones share new ones."""

FIELDS: Final = ("partition", "format", "operation", "shape", "model", "served_model")


class SharedNames:
    """Gives equal names of entries the same memory; each is parsed anew out of every request and answer.

    Without it, an entry of 1 KB takes 200 bytes more. `sys.intern` would do, but keeps names for good on Python 3.12,
    and clients choose them.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def share(self, entry: Entry) -> None:
        """Put the first of its kind in place of each name; the entry says what it said before."""
        if len(self._names) > MOST_NAMES:
            self._names.clear()
        for field in FIELDS:
            name: str | None = getattr(entry, field)
            if name is not None and len(name) <= SHARED_CHARS:
                shared = self._names.setdefault(name, name)
                if shared is not name:
                    object.__setattr__(entry, field, shared)
