"""The one owner of the running configuration: every change, whoever makes it, goes through here, one at a time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from proxy.config.edits import Edit
from proxy.config.loader import Document
from proxy.config.patch import difference
from proxy.config.proposal import Proposal, Proposer, diff_of
from proxy.config.revisions import Cause, Pending, Revision
from proxy.config.secrets import SecretStore, reveal, secret_values
from proxy.config.standing import Standing
from proxy.errors import (
    ConfigError,
    Fault,
    Overloaded,
    ProxyError,
    RevisionMismatch,
    UnknownPath,
)
from proxy.events import Events
from proxy.redaction import Redactor
from proxy.reload.order import Order, Outcome
from proxy.reload.pending import Endings, after_change, is_same_ending
from proxy.reload.record import Record
from proxy.reload.swap import Swapper
from proxy.reload.vitals import Vitals
from proxy.tasks import Tasks
from proxy.values import format_duration

MOST_WAITING: Final = 200
"""Changes that may wait for the one before them."""
LONGEST_CHANGE_S: Final = 60.0
MOST_PENDING: Final = 100
LONGEST_TTL_S: Final = 366 * 86400.0
LONGEST_GUARD_S: Final = 3600.0
LONGEST_GOODBYE_S: Final = 5.0

Make = Callable[[Standing, SecretStore], Proposal]
"""Makes the proposal of a change; runs in a thread."""


class Configuration:
    """Changes the configuration: all of it is checked, made ready, written down, and only then swapped in.

    Args:
        standing: what is in force.
        store: the secrets it names.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        record: Record,
        store: SecretStore,
        proposer: Proposer,
        swapper: Swapper,
        vitals: Vitals,
        redactor: Redactor,
        events: Events,
        tasks: Tasks,
        wall_clock: Callable[[], float],
    ) -> None:
        self.standing = standing
        self.record = record
        self._store = store
        self._proposer = proposer
        self._swapper = swapper
        self._vitals = vitals
        self._redactor = redactor
        self._events = events
        self._tasks = tasks
        self._wall_clock = wall_clock
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._endings = Endings(
            tasks=tasks,
            vitals=vitals,
            settings=lambda: self.standing.loaded.settings.changes,
            end=self._take_back,
            keep=self._keep,
            tell_failure=record.tell_of_revert,
            tell_mended=record.forget_revert,
            wall_clock=wall_clock,
        )

    def start(self) -> None:
        """Begin to wait for the changes that end by themselves."""
        self._endings.arm(self.standing.pending)

    async def close(self) -> None:
        """Change nothing any more: let nothing end by itself, and wait for a change that is being made."""
        self._endings.stop()
        try:
            async with asyncio.timeout(LONGEST_GOODBYE_S):
                await self._lock.acquire()  # and never give it back
        except TimeoutError:
            self._events.emit("WARN", "config_cut", f"a change is not made within {LONGEST_GOODBYE_S:g} s: it is cut")

    # -- changes -----------------------------------------------------------------------------------------------------

    async def change(self, edit: Edit, order: Order) -> Outcome:
        """Carry out an edit of the document as it is shown.

        Raises:
            RevisionMismatch: another revision than `order.if_match` is in force.
            ConfigError: the result is not valid, or a plugin refuses it; with every fault there is.
            StorageFailed: it cannot be written down.
            Overloaded: too many changes wait.
        """

        def make(standing: Standing, store: SecretStore) -> Proposal:
            return self._proposer.edit(standing, store, edit, is_trusted=order.is_trusted)

        return await self._carry_out(make, order)

    async def apply_file(self, read: Callable[[], Document], order: Order) -> Outcome:
        """Apply the configuration file; what its edit changed goes before live changes. Raises as `change`."""
        return await self._carry_out(lambda standing, store: self._proposer.file(standing, store, read()), order)

    async def roll_back(self, number: int, order: Order) -> Outcome:
        """Put an earlier revision's document in force again. Raises as `change`, and UnknownPath."""
        revision = await self.find(number)
        order = replace(order, is_whole=True, restores=self._still_pending(revision))
        return await self._carry_out(
            lambda standing, store: self._proposer.whole(standing, store, revision.document), order
        )

    def _still_pending(self, revision: Revision) -> tuple[Pending, ...]:
        """Give what would have ended a revision's changes, as far as its time is yet to come."""
        now_s = self._wall_clock()
        timed = (one for one in revision.pending if one.baseline is None and one.at_s > now_s)
        return tuple(replace(one, inverse=reveal(one.inverse, self._store, [])) for one in timed)

    async def reset(self, order: Order) -> Outcome:
        """Drop every live change: back to the file. Raises as `change`."""
        order = replace(order, is_whole=True)

        def make(standing: Standing, store: SecretStore) -> Proposal:
            return self._proposer.patch(standing, store, difference(standing.document, standing.base))

        return await self._carry_out(make, order)

    async def find(self, number: int) -> Revision:
        """Read a revision from the disk. Raises UnknownPath."""
        found = await self.record.find(number)
        if found is None:
            kept = await self.record.numbers()
            span = f"{kept[0]} to {kept[-1]} are kept" if kept else "none is kept"
            raise UnknownPath(f"there is no revision {number}; {span}")
        return found

    async def difference(self, one: Revision, other: Revision) -> tuple[dict[str, object], ...]:
        """Tell how two revisions differ, defaults filled in: `[{"path", "old", "new"}]`."""
        store = self._store.fork()
        shown = [await asyncio.to_thread(self._proposer.shown, each.document, store) for each in (one, other)]
        return diff_of(*shown)

    # -- one change --------------------------------------------------------------------------------------------------

    async def _carry_out(self, make: Make, order: Order) -> Outcome:
        """Run a change in a task of its own: a caller that leaves must not stop it half way."""
        _check_times(order)
        if self._waiting >= MOST_WAITING:
            raise Overloaded(f"{self._waiting} changes of the configuration wait already", retry_after_s=1.0)
        self._waiting += 1
        task = self._tasks.spawn(self._in_turn(make, order), name="change of configuration")
        try:
            async with asyncio.timeout(LONGEST_CHANGE_S):
                result: Outcome | ProxyError = await asyncio.shield(task)
        except TimeoutError:
            raise Overloaded(f"the change takes more than {LONGEST_CHANGE_S:g} s; see /deployments") from None
        if isinstance(result, ProxyError):
            raise result
        return result

    async def _in_turn(self, make: Make, order: Order) -> Outcome | ProxyError:
        try:
            async with self._lock:
                return await self._make_change(make, order)
        except ProxyError as error:
            return error
        finally:
            self._waiting -= 1

    async def _make_change(self, make: Make, order: Order) -> Outcome:
        standing = self.standing
        if order.if_match is not None and standing.revision not in order.if_match:
            message = f"revision {standing.revision} is in force, not the one that If-Match names; read it again"
            raise RevisionMismatch(message, standing.revision)
        store = self._store.fork()
        proposal = await asyncio.to_thread(make, standing, store)
        number = self.record.history.next_number if proposal.is_change else standing.revision
        made = self._made(order, number)
        pending = await asyncio.to_thread(_pending_after, standing, proposal, order, made)
        if not order.is_dry_run:
            if proposal.is_change:
                await self._put_in_force(proposal, order, pending, store)
            elif pending != standing.pending:
                await self._note_pending(pending)
        now = self.standing.revision
        ends = tuple(one for one in pending if any(is_same_ending(one, each) for each in made))
        return Outcome(now, proposal.is_change, ends, standing.revision, proposal.diff, proposal.loaded)

    def _made(self, order: Order, number: int) -> list[Pending]:
        """Tell how an order's change is to end; what it takes back is filled in later."""
        now_s = self._wall_clock()
        made = []
        if order.ttl_s is not None:
            made.append(Pending(number, now_s + order.ttl_s, {}))
        if order.guard_s is not None:
            baseline = {**self._vitals.last(order.guard_s).as_json(), "window": order.guard_s}
            made.append(Pending(number, now_s + order.guard_s, {}, baseline))
        return made

    async def _put_in_force(
        self, proposal: Proposal, order: Order, pending: tuple[Pending, ...], store: SecretStore
    ) -> None:
        number, loaded = self.record.history.next_number, proposal.loaded
        self._redactor.register(*await asyncio.to_thread(secret_values, loaded))
        swap = await self._swapper.prepare(number, loaded)
        standing = Standing(number, proposal.base, loaded, proposal.shown, pending)
        try:
            await self.record.write(standing, order, proposal.diff, store)
        except BaseException:
            await swap.undo()
            raise
        swap.commit()
        self.standing, self._store = standing, store
        self.record.tell(number, order, proposal.diff)
        self._endings.arm(pending)
        await swap.finish()

    # -- changes that end by themselves --------------------------------------------------------------------------------

    async def _take_back(self, one: Pending, cause: Cause, why: str) -> Outcome | None:
        def make(standing: Standing, store: SecretStore) -> Proposal:
            # what later changes left of it; an empty patch if it is gone meanwhile
            left = next((each.inverse for each in standing.pending if is_same_ending(each, one)), {})
            return self._proposer.patch(standing, store, left)

        return await self._carry_out(make, Order(author=cause, cause=cause, reason=why))

    async def _keep(self, one: Pending) -> None:
        """Take note that a guarded change has proved good."""
        async with self._lock:
            pending = tuple(each for each in self.standing.pending if not is_same_ending(each, one))
            if pending == self.standing.pending:
                return
            await self._note_pending(pending)
            message = f"revision {one.number} is kept: requests went no worse than before"
            self._events.emit("INFO", "config_guard_passed", message, revision=one.number)

    async def _note_pending(self, pending: tuple[Pending, ...]) -> None:
        """Take note that something else is pending, where no setting changed."""
        standing = replace(self.standing, pending=pending)
        await self.record.write_pending(standing, self._store)
        self.standing = standing
        self._endings.arm(pending)


def _pending_after(
    standing: Standing, proposal: Proposal, order: Order, made: Sequence[Pending]
) -> tuple[Pending, ...]:
    """Tell what will end by itself after a change."""
    if not made and not standing.pending:
        return order.restores
    old, new = standing.document, proposal.loaded.document.raw
    pending = after_change(standing.pending, old, new, touched=proposal.touched, made=made)
    if order.is_whole:
        pending = (*order.restores, *(one for one in pending if any(is_same_ending(one, each) for each in made)))
    if made and len(pending) > MOST_PENDING:
        message = f"{MOST_PENDING} changes wait for their end already; make some of them permanent"
        raise ConfigError(message, [Fault("?ttl", message)])
    return pending


def _check_times(order: Order) -> None:
    for name, time_s, most_s in (("ttl", order.ttl_s, LONGEST_TTL_S), ("guard", order.guard_s, LONGEST_GUARD_S)):
        if time_s is not None and not 1.0 <= time_s <= most_s:
            message = f"{time_s:g} s is not from 1 s to {format_duration(most_s)}"
            raise ConfigError(f"?{name}: {message}", [Fault(f"?{name}", message, time_s)])
