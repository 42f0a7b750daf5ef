"""Who wants the configuration changed, and how; and what came of it."""

from dataclasses import dataclass

from proxy.config.loader import Loaded
from proxy.config.patch import Json
from proxy.config.revisions import Cause, Pending


@dataclass(frozen=True, slots=True)
class Order:
    """The circumstances of a change.

    Args:
        author: an address, a user, or what of this program.
        reason: in the author's words; may be empty.
        if_match: revisions of which one must be in force; None for any.
        is_dry_run: nothing is to be changed.
        ttl_s: after which time the change ends by itself.
        guard_s: for how long it ends by itself should requests go worse than before.
        is_trusted: the author has shown a token, or is this program.
        is_whole: it says what everything is to be, so that no earlier change may end by itself any more.
        restores: what was pending when the document that is wanted was in force.
    """

    author: str
    cause: Cause
    reason: str = ""
    if_match: frozenset[int] | None = None
    is_dry_run: bool = False
    ttl_s: float | None = None
    guard_s: float | None = None
    is_trusted: bool = True
    is_whole: bool = False
    restores: tuple[Pending, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change.

    Args:
        revision: the one in force now.
        is_changed: a new revision was made; for a dry run: one would be made.
        made: what of this change will end by itself.
        previous: the revision that was in force before.
        diff: `[{"path", "old", "new"}]`.
        loaded: the configuration in force now; for a dry run: the one that would be.
    """

    revision: int
    is_changed: bool
    made: tuple[Pending, ...]
    previous: int
    diff: tuple[Json, ...]
    loaded: Loaded
