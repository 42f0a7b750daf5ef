"""Names that many entries have alike, kept once: callers, models."""

from typing import Final

from plugins.cache.entry import Entry

MOST_NAMES: Final = 10_000
"""Then all are forgotten: entries keep theirs, later ones share new ones."""


class SharedNames:
    """Gives equal names of entries the same memory; each is parsed anew out of every request and answer.

    Without it, an entry of 1 KB takes 200 bytes more. `sys.intern` would do, but keeps names for good on Python 3.12,
    and clients choose them.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def share(self, entry: Entry) -> None:
        """Put the first of its kind in place of each name; the entry says what it said before."""
        names = self._names
        if len(names) > MOST_NAMES:
            names.clear()
        entry.partition = names.setdefault(entry.partition, entry.partition)
        if entry.model is not None:
            entry.model = names.setdefault(entry.model, entry.model)
        if entry.served_model is not None:
            entry.served_model = names.setdefault(entry.served_model, entry.served_model)
