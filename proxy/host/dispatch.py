"""Calls the hooks: the only place that does. Compiled anew whenever the set of active plugins changes."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import perf_counter
from types import CoroutineType
from typing import Any, Final, NamedTuple, TypeVar

from proxy.callers import Identity
from proxy.exchange import Candidate, Exchange, JsonObject, Reply, Wait
from proxy.host.answers import (
    check_counts,
    check_each,
    check_filter,
    check_identity,
    check_issues,
    check_nothing,
    check_reply,
    check_selection,
    check_waited,
    junk,
)
from proxy.host.containment import Containment, describe, is_answer
from proxy.host.drive import Drive
from proxy.host.filters import FilterChain
from proxy.host.hooks import Hook
from proxy.plugin import AdminRoute, Issue
from proxy.sink import StreamFilter

AnswerT = TypeVar("AnswerT")

REFUSING: Final = frozenset({"pre_request", "select_provider"})
"""Hooks whose Refused and ClientError go to the client."""


class Begun(NamedTuple):
    """A hook that waits for something.

    Args:
        started: when it was called, by `perf_counter`.
        first_step_s: how long it kept the loop from other work until it waited.
    """

    drive: Drive
    started: float
    first_step_s: float


class Dispatch:
    """The request hooks of all active plugins, flat and in order.

    An exchange uses one Dispatch from its beginning to its end. Each of the four tuples is empty when nobody
    implements the hook, so that one truth test skips it.
    """

    __slots__ = (
        "_containment",
        "_slow_s",
        "post_response",
        "pre_request",
        "select_provider",
        "stream_filter",
        "wants_all_ends",
    )

    def __init__(
        self,
        containment: Containment,
        pre_request: tuple[Hook, ...] = (),
        select_provider: tuple[Hook, ...] = (),
        stream_filter: tuple[Hook, ...] = (),
        post_response: tuple[Hook, ...] = (),
    ) -> None:
        self._containment = containment
        self._slow_s = containment.limits.slow_s
        self.pre_request = pre_request
        self.select_provider = select_provider
        self.stream_filter = stream_filter
        self.post_response = post_response
        self.wants_all_ends = not all(hook.is_noted_only for hook in post_response)
        """Some plugin wants to know how every exchange ended, also those of which nothing was noted."""

    @property
    def has_stream_filters(self) -> bool:
        """Whether streams must be split into events."""
        return bool(self.stream_filter)

    async def run_pre_request(self, exchange: Exchange) -> Reply | None:
        """Ask each plugin whether it answers the request, until one does.

        Raises:
            Refused, ClientError: a plugin's answer to the client.
            PluginFailed: a fail-closed plugin failed.
        """
        for hook in self.pre_request:
            begun: Reply | Wait | Begun | None = self._begin(hook, exchange, check_reply)
            if begun is None:  # as most answer
                continue
            answer: Reply | Wait | None
            answer = await self._complete(hook, begun, check_reply) if isinstance(begun, Begun) else begun
            reply = await self._wait(hook, answer) if isinstance(answer, Wait) else answer
            if reply is not None:
                return reply
        return None

    def select(self, exchange: Exchange, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Order the candidates; as given when there are fewer than two or no plugin cares.

        Raises: as `run_pre_request`.
        """
        given = tuple(candidates)
        if len(given) < 2:
            return given
        for hook in self.select_provider:
            chosen = self._call(hook, lambda answer: check_selection(answer, given), exchange, given)
            if chosen is not None:
                return chosen
        return given

    def filters(self, exchange: Exchange) -> StreamFilter | None:
        """Chain the filters that plugins have for this stream; None if none has.

        The chain contains failures; it raises PluginFailed, from here, `event` or `end`, for fail-closed plugins only,
        and Refused where a filter ends the stream.
        """
        found = []
        for hook in self.stream_filter:
            stream_filter = self._call(hook, check_filter, exchange)
            if stream_filter is not None:
                found.append((hook, stream_filter))
        return FilterChain(found, self._containment) if found else None

    async def run_post_response(self, exchange: Exchange) -> None:
        """Tell every plugin how the exchange ended; nothing a plugin does is raised.

        A cancellation of the task meanwhile interrupts the hook that waits, the others are told all the same, and it
        is raised at the end.
        """
        interrupted: BaseException | None = None
        for hook in self.post_response:
            if hook.is_noted_only and hook.plugin not in exchange.notes and not exchange.is_background:
                continue
            try:
                begun = self._begin(hook, exchange, check_nothing)
                if begun is not None:
                    await self._complete(hook, begun, check_nothing)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
                    raise
                if not isinstance(error, Exception):
                    interrupted = error
        if interrupted is not None:
            raise interrupted

    def _begin(
        self, hook: Hook, exchange: Exchange, check: Callable[[object], AnswerT | None]
    ) -> "AnswerT | Begun | None":
        """Call one hook that may be asynchronous; most are not, or do not wait.

        Returns:
            Its answer, None when it failed and may be skipped; or what goes on in `_complete`.
        """
        answer: AnswerT | None = None
        started = perf_counter()
        try:
            raw = hook.call(exchange)
            if raw.__class__ is CoroutineType:
                try:
                    pending = raw.send(None)
                except StopIteration as stop:
                    raw = stop.value
                else:
                    drive = Drive(raw, self._containment.limits.budget_s, pending)
                    return Begun(drive, started, perf_counter() - started)
            if raw is not None:
                answer = check(raw)
        except BaseException as raised:  # also CancelledError: nothing suspended, so it is the hook's own
            if isinstance(raised, KeyboardInterrupt | SystemExit):
                raise
            took_s = perf_counter() - started
            self._judge(hook, raised, took_s, took_s)
            return None
        took_s = perf_counter() - started
        stats = hook.stats
        stats.calls.value += 1
        stats.seconds.value += took_s
        if took_s < self._slow_s:
            stats.recent.append(True)
        else:
            self._containment.passed(hook, took_s)
        return answer

    async def _complete(self, hook: Hook, begun: "Begun", check: Callable[[object], AnswerT | None]) -> AnswerT | None:
        """Wait for the rest of a hook that waits for something; None when it failed and may be skipped."""
        drive = begun.drive
        answer, error = await self._finish(drive, check)
        took_s, blocked_s = perf_counter() - begun.started, max(begun.first_step_s, drive.longest_step_s)
        self._judge(hook, error, took_s, blocked_s, is_overrun=drive.is_overrun)
        return answer if error is None else None

    async def _wait(self, hook: Hook, wait: Wait) -> Reply | None:
        """Follow what a plugin waits for; None when its deadline passed or it failed and may be skipped."""
        drive = Drive(follow(wait.awaitable), wait.deadline_s)
        drive.begin()
        reply, error = await self._finish(drive, check_waited)
        if error is None or drive.is_overrun:
            return reply
        self._judge(hook, error, 0.0, drive.longest_step_s)
        return None

    @staticmethod
    async def _finish(
        drive: Drive, check: Callable[[object], AnswerT | None]
    ) -> tuple[AnswerT | None, BaseException | None]:
        await drive
        if drive.error is not None or drive.answer is None:
            return None, drive.error
        try:
            return check(drive.answer), None
        except TypeError as error:
            return None, error

    def _call(self, hook: Hook, check: Callable[[object], AnswerT | None], *arguments: object) -> AnswerT | None:
        """Call one plain hook; None when it failed and may be skipped."""
        answer: AnswerT | None = None
        error: BaseException | None = None
        started = perf_counter()
        try:
            raw = hook.call(*arguments)
            answer = None if raw is None else check(raw)
        except BaseException as raised:
            if isinstance(raised, KeyboardInterrupt | SystemExit):
                raise
            error = raised
        took_s = perf_counter() - started
        self._judge(hook, error, took_s, took_s)
        return answer

    def _judge(
        self, hook: Hook, error: BaseException | None, took_s: float, blocked_s: float, *, is_overrun: bool = False
    ) -> None:
        """Count a call and contain its failure; raises what is for the client."""
        stats = hook.stats
        stats.calls.value += 1
        stats.seconds.value += took_s
        if error is None:
            self._containment.passed(hook, blocked_s)
        elif is_answer(error) and hook.name in REFUSING:
            self._containment.passed(hook, blocked_s)
            raise error
        else:
            self._containment.failed(hook, error, is_overrun=is_overrun)


async def run_lifecycle(hook: Hook, timeout_s: float, *arguments: object) -> None:
    """Call `startup`, `shutdown` or `reconfigure`. Raises as `run_once`."""
    await run_once(hook, timeout_s, lambda answer: None if answer is None else refuse(hook, answer), *arguments)


async def run_once(hook: Hook, timeout_s: float, check: Callable[[object], AnswerT], *arguments: object) -> AnswerT:
    """Call a hook outside of requests that may be asynchronous.

    Raises:
        TimeoutError: it took longer than `timeout_s` and was cut.
        Exception: whatever the plugin raised; also kinds that are not an Exception come as RuntimeError.
    """
    started = perf_counter()
    hook.stats.calls.value += 1
    drive = None
    try:
        answer = tame(hook.call, *arguments)
        if isinstance(answer, Coroutine):
            drive = Drive(answer, timeout_s)
            drive.begin()
            await drive
            if drive.error is not None:
                tame(throw, drive.error)
            answer = drive.answer
        return check(answer)
    except Exception:
        (hook.stats.overruns if drive is not None and drive.is_overrun else hook.stats.errors).value += 1
        raise
    finally:
        hook.stats.seconds.value += perf_counter() - started


def refuse(hook: Hook, answer: object) -> None:
    """Raise for an answer where there should be none."""
    raise junk(hook.name, answer, "nothing")


async def ask_reset(hook: Hook, timeout_s: float, containment: Containment) -> JsonObject:
    """Call `reset`; `{"error": ...}` when it fails, which is told and never switches the plugin off."""
    try:
        return await run_once(hook, timeout_s, check_counts)
    except Exception as error:  # foreign code
        containment.told(hook, error)
        return {"error": describe(error)}


def ask_routes(hook: Hook) -> Sequence[AdminRoute]:
    """Call `admin_routes`. Raises TypeError for anything but AdminRoutes, and whatever the plugin raises."""
    hook.stats.calls.value += 1
    return check_each(hook.name, tame(hook.call), AdminRoute)


def ask_issues(hook: Hook, containment: Containment) -> Sequence[Issue]:
    """Call `config_issues`; nothing when it fails."""
    return ask_aside(hook, containment, check_issues, hook.call) or ()


def ask_identity(hook: Hook, containment: Containment, text: str, is_credential: bool) -> Identity | None:
    """Call `identify`; None when it fails, of which only the kind is told: the words may repeat the credential."""

    def ask() -> object:
        try:
            return tame(hook.call, text, is_credential)
        except Exception as error:  # foreign code
            raise RuntimeError(type(error).__name__) from None

    return ask_aside(hook, containment, check_identity, ask)


def ask_aside(
    hook: Hook, containment: Containment, check: Callable[[object], AnswerT], call: Callable[[], object]
) -> AnswerT | None:
    """Call a plain hook outside of requests; a failure is told and counted, is None, and never switches it off."""
    started = perf_counter()
    hook.stats.calls.value += 1
    try:
        return check(tame(call))
    except Exception as error:  # foreign code
        containment.noted(hook, error)
        return None
    finally:
        hook.stats.seconds.value += perf_counter() - started


def tame(call: Callable[..., Any], *arguments: object) -> Any:  # Any: as the plugin answers
    """Call foreign code that is not waited for; what it raises is an Exception, or an order to end the process."""
    try:
        return call(*arguments)
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # also CancelledError: nothing suspended, so it is the plugin's own
        raise RuntimeError(describe(error)) from error


def throw(error: BaseException) -> None:
    """Raise it."""
    raise error


async def follow(awaitable: Awaitable[Reply | None]) -> Reply | None:
    """Make a coroutine of any awaitable."""
    return await awaitable
