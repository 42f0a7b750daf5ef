"""The configuration in force: what the file says, what live changes made of it, and what of them will end."""

from dataclasses import dataclass

from proxy.config.loader import Loaded
from proxy.config.patch import Json
from proxy.config.revisions import Pending


@dataclass(frozen=True, slots=True)
class Standing:
    """A configuration as it is in force.

    Args:
        base: the file's document as last accepted, with its secrets.
        shown: the document with defaults filled in and ids where secrets stand.
        pending: the changes that will end by themselves, with their secrets.
    """

    revision: int
    base: Json
    loaded: Loaded
    shown: Json
    pending: tuple[Pending, ...] = ()

    @property
    def document(self) -> Json:
        """The document as written, with its secrets."""
        return self.loaded.document.raw
