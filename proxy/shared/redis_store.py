"""One Redis or Valkey: its calls, each within the deadline, and the one task that finds out when it is back."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol, TypeVar

from proxy.config.store_models import StoreSettings
from proxy.events import Events, Seldom
from proxy.shared.accounts import StoreMetrics
from proxy.shared.circuit import Circuit
from proxy.shared.deadline import Deadline
from proxy.store import StoreRefused, StoreUnavailable
from proxy.tasks import Tasks
from proxy.values import format_duration

T = TypeVar("T")

Verdict = Literal["failed", "refused", "busy", "none"]
"""What an error says of the server: it cannot answer; it answers with an error; no connection was left to ask by; and
nothing, the caller is at fault."""

SAME_NEWS_EVERY_S: Final = 60.0
SHARE_OF_TIME: Final = 0.5
"""Of the timeout: a call that waited for a connection until the server had less than this tells nothing about it."""
LONG_S: Final = 0.1
"""Whatever the timeout: a server that is silent for so long is late."""
GOODBYE_S: Final = 1.0
"""How long calls still running and connections have to end when a store is given up, beyond the deadline."""


class Client(Protocol):
    """The client library behind it; see `shared.client`."""

    redis: Any  # Any: redis.asyncio.Redis, of a library that is loaded only when used

    async def try_anew(self) -> None: ...
    async def close(self) -> None: ...


class Library(Protocol):
    """What the module `shared.client` gives."""

    def judge(self, error: Exception) -> Verdict: ...
    def told(self, error: Exception) -> str: ...


class RedisStore:
    """A SharedStore. `start` it, and `close` it when another one is in its place.

    Args:
        shown: its URL without user and password.
        clock: monotonic seconds.
        sleep: as `asyncio.sleep`.
    """

    def __init__(
        self,
        settings: StoreSettings,
        shown: str,
        client: Client,
        library: Library,
        *,
        metrics: StoreMetrics,
        events: Events,
        tasks: Tasks,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self.prefix = settings.prefix
        self._shown = shown
        self._client = client
        self._library = library
        self._metrics = metrics
        self._events = events
        self._tasks = tasks
        self._clock = clock
        self._sleep = sleep
        self._circuit = Circuit(settings.breaker)
        self._timeout_s = settings.timeout
        self._places = asyncio.Semaphore(settings.max_connections)
        self._why = ""
        self._seldom = Seldom[str](SAME_NEWS_EVERY_S)
        self._running = 0
        self._emptied = asyncio.Event()
        self._is_closed = False
        self._prober: asyncio.Task[Any] | None = None  # Any: as in Tasks

    @property
    def is_open(self) -> bool:
        """See SharedStore."""
        return self._circuit.is_open

    def problem(self) -> str | None:
        """Say what an operator should know, in words that name the setting; None while it is asked."""
        if not self._circuit.is_open:
            return None
        since = format_duration(self._clock() - self._circuit.since_s)
        return f"the shared store {self._shown} has been down for {since}: {self._why}; see store.url"

    # -- calls -------------------------------------------------------------------------------------------------------

    async def call(self, make: Callable[[Any], Awaitable[T]]) -> T:
        """See SharedStore."""
        if self._circuit.is_open or self._is_closed:
            self._metrics.skipped.value += 1
            raise StoreUnavailable(f"the shared store is not asked: {self._why or 'it has been replaced'}")
        era, began_s, asked_s = self._circuit.era, self._clock(), math.inf
        deadline = Deadline(self._timeout_s)
        self._running += 1
        try:
            with deadline:
                async with self._places:
                    asked_s = self._clock()
                    answer = await make(self._client.redis)
        except asyncio.CancelledError:
            self._left(era, self._clock() - asked_s)
            raise
        except Exception as error:
            self._judge(error, era, is_late=deadline.is_over, had_s=self._clock() - asked_s)
            raise  # the caller's own fault
        else:
            self._metrics.ok.value += 1
            self._circuit.succeed(era)
            return answer
        finally:
            self._metrics.seconds.observe(self._clock() - began_s)
            self._running -= 1
            if not self._running:
                self._emptied.set()

    def _judge(self, error: Exception, era: int, *, is_late: bool, had_s: float) -> None:
        """Count a call that failed. Raises what its caller is told, nothing where the server is not at fault.

        Args:
            had_s: how long the server had for it, below 0 if it was never asked.
        """
        verdict = self._library.judge(error)
        if (is_late and had_s < self._timeout_s * SHARE_OF_TIME) or verdict == "busy":
            self._metrics.busy.value += 1
            raise StoreUnavailable("the shared store has more calls to answer than connections to take them") from error
        if is_late:
            self._metrics.late.value += 1
            self._fail(era, f"no answer within {self._timeout_s * 1000:g} ms", error)
        if verdict == "failed":
            self._metrics.failed.value += 1
            self._fail(era, self._library.told(error), error)
        if verdict == "refused":
            self._metrics.refused.value += 1
            self._circuit.succeed(era)
            self._refused(self._library.told(error), error)

    def _left(self, era: int, had_s: float) -> None:
        """Count a call whose caller left: against the server where it had been silent for too long by then.

        Else a timeout above the time that a hook has would keep the circuit closed for ever.
        """
        if had_s >= min(self._timeout_s * SHARE_OF_TIME, LONG_S):
            self._metrics.late.value += 1
            self._count(era, f"no answer within {had_s * 1000:.0f} ms, when the caller left")

    def _fail(self, era: int, why: str, error: Exception) -> None:
        self._count(era, why)
        raise StoreUnavailable(f"the shared store fails: {why}") from error

    def _count(self, era: int, why: str) -> None:
        if self._circuit.fail(era, self._clock()):
            self._leave_alone(f"{self.settings.breaker.failures} calls in a row failed, the last one: {why}")

    def _refused(self, why: str, error: Exception) -> None:
        suppressed = self._seldom.admit(why, self._clock())
        if suppressed is not None:
            message = f"the shared store {self._shown} answers with an error: {why}"
            self._events.emit("WARN", "store_refused", message, reason=why, suppressed=suppressed)
        raise StoreRefused(f"the shared store answers with an error: {why}") from error

    # -- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find out whether it is there, so that no request has to."""
        self._prober = self._tasks.spawn(self._try_first(), name="first look at the shared store")

    async def close(self) -> None:
        """Take no more calls, let those that run end, and drop its connections."""
        self._is_closed = True
        if self._prober is not None:
            self._prober.cancel()
        try:
            async with asyncio.timeout(self._timeout_s + GOODBYE_S):
                while self._running:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            pass  # a call of a plugin that goes on though it was cancelled: its connection ends here
        await self._client.close()

    def _leave_alone(self, why: str) -> None:
        self._why = why
        wait_s = self._circuit.cooldown_s
        message = f"the shared store {self._shown} is down: {why}; it is not asked, and tried again in {wait_s:g} s"
        self._events.emit("WARN", "store_down", message, url=self._shown, reason=why)
        self._prober = self._tasks.spawn(self._find_back(), name="probe of the shared store")

    async def _try_first(self) -> None:
        era = self._circuit.era
        while self._circuit.era == era:  # as often as it takes, with the calls that come meanwhile
            why = await self._try(self._client.redis.ping)
            if why is None:
                self._circuit.succeed(era)
                return
            self._count(era, why)

    async def _find_back(self) -> None:
        while self._circuit.is_open:
            # never before the last call has ended: to drop idle connections must not meet one that takes one up
            await self._sleep(max(self._circuit.cooldown_s, 2 * self._timeout_s))
            why = await self._try(self._client.try_anew)
            if why is None:
                self._be_back()
            else:
                self._why = why
                self._circuit.stay_open()

    def _be_back(self) -> None:
        now_s = self._clock()
        away = format_duration(now_s - self._circuit.since_s)
        self._circuit.close(now_s)
        self._events.emit("INFO", "store_up", f"the shared store {self._shown} is back after {away}", url=self._shown)

    async def _try(self, ask: Callable[[], Awaitable[object]]) -> str | None:
        """Ask whether it answers; what is wrong, or None."""
        try:
            with Deadline(self._timeout_s):
                await ask()
        except Exception as error:  # whatever it is, the circuit must find back
            return self._library.told(error)
        return None
