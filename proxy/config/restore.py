"""What is in force at a start: the file, and over it the live changes of earlier processes that it leaves alone."""

from dataclasses import dataclass, replace

from proxy.config.export import show
from proxy.config.loader import Loaded
from proxy.config.patch import Json, both, difference, give_way, is_same, merge
from proxy.config.proposal import Proposer, diff_of, over_file
from proxy.config.revisions import Cause, Pending, Revision
from proxy.config.secrets import SecretStore, redact, reveal
from proxy.config.standing import Standing
from proxy.errors import ConfigError
from proxy.plugin import Issue


@dataclass(frozen=True, slots=True)
class Restored:
    """What a start begins with.

    Args:
        cause: why it is another revision than the newest one there was; None if it is that one.
        diff: against that one, `[{"path", "old", "new"}]`.
        trouble: why the live changes were set aside; None if they were not.
    """

    standing: Standing
    cause: Cause | None
    reason: str
    diff: tuple[Json, ...]
    trouble: Issue | None = None


def restore(
    file: Loaded,
    newest: Revision | None,
    store: SecretStore,
    proposer: Proposer,
    *,
    number: int,
    now_s: float,
    failure: ConfigError | None = None,
) -> Restored:
    """Find what to begin with.

    Args:
        file: the configuration file, valid by itself.
        newest: the newest whole revision there is.
        number: for the revision that this becomes if it is a new one.
        now_s: wall clock: timed changes that are over by now are taken back.
        failure: why the start failed with the live changes: they are set aside.
    """
    base = file.document.raw
    if newest is None:
        return Restored(Standing(number, base, file, show(file, store)), "start", "first start", ())
    if failure is not None and is_same(over_file(newest.base, newest.document, newest.base), newest.base):
        raise failure  # there are no live changes: it is the file that does not do
    try:
        if failure is not None:
            raise failure
        kept = _revealed(newest, store)
        loaded, pending, ended = _fitting(kept, file, proposer, now_s)
    except ConfigError as error:
        standing = Standing(number, base, file, show(file, store))
        trouble = _set_aside(newest, error)
        return Restored(standing, "start", trouble.message, (), trouble)
    is_edited = not is_same(kept.base, base)
    cause: Cause | None = "timer" if ended else "file" if is_edited else None
    if cause is None and pending == kept.pending:
        standing = Standing(newest.number, base, loaded, show(loaded, store), pending)
        return Restored(standing, None, "", ())
    standing = Standing(number, base, loaded, show(loaded, store), pending)
    reason = "edited while the program was stopped" if is_edited else "over while the program was stopped"
    diff = diff_of(newest.document, redact(loaded.document.raw, loaded.shape, store))
    return Restored(standing, cause or "start", reason, diff)


@dataclass(frozen=True, slots=True)
class _Kept:
    base: Json
    document: Json
    pending: tuple[Pending, ...]


def _revealed(newest: Revision, store: SecretStore) -> _Kept:
    unknown: list[tuple[tuple[str | int, ...], str]] = []
    kept = _Kept(
        reveal(newest.base, store, unknown),
        reveal(newest.document, store, unknown),
        tuple(replace(one, inverse=reveal(one.inverse, store, unknown)) for one in newest.pending),
    )
    if unknown:
        raise ConfigError(f"the secrets that it names are lost ({len(unknown)})")
    return kept


def _fitting(kept: _Kept, file: Loaded, proposer: Proposer, now_s: float) -> tuple[Loaded, tuple[Pending, ...], bool]:
    """Put the live changes over the file, and take back what is over; tells also whether anything was.

    What cannot be taken back without breaking the rest stays pending, to be tried and told while the program runs.

    Raises:
        ConfigError: the live changes do not fit over the file.
    """
    document = over_file(kept.base, kept.document, file.document.raw)
    # what the file confirms stays, too
    edit = both(difference(kept.base, file.document.raw), difference(kept.document, document))
    left = tuple(
        one for one in (replace(one, inverse=give_way(one.inverse, edit)) for one in kept.pending) if one.inverse
    )
    over = [one for one in left if one.baseline is None and one.at_s <= now_s]
    taken_back = document
    for one in over:
        taken_back = merge(taken_back, one.inverse)
    if over:
        try:
            return _over(file, taken_back, proposer), tuple(one for one in left if one not in over), True
        except ConfigError:
            pass
    return _over(file, document, proposer), left, False


def _over(file: Loaded, document: Json, proposer: Proposer) -> Loaded:
    if is_same(document, file.document.raw):
        return file
    return proposer.validated(document, "the file with the live changes")


def _set_aside(newest: Revision, error: ConfigError) -> Issue:
    return Issue(
        "overlay_set_aside",
        "error",
        error.faults[0].path if error.faults else "",
        f"the live changes of revision {newest.number} are set aside: {error.message}",
        "The program runs with the configuration file alone.",
        command=f"python -m proxy deployments show {newest.number}",
    )
