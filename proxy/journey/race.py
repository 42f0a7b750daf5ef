"""Several attempts for one client: the first that has something to say gets it, the others are dropped."""

from collections.abc import Callable

from proxy.errors import ProxyError, UpstreamError
from proxy.exchange import Attempt
from proxy.sink import Sink


class LostRace(UpstreamError):
    """Another attempt was faster; says nothing about the provider."""

    code = "lost_race"


class Race:
    """Decides who of several contenders has the client.

    Args:
        sink: the client's side.
        on_won: called with the winner when it is known, from inside a socket's callback.
    """

    def __init__(self, sink: Sink, on_won: Callable[["Contender"], None]) -> None:
        self.sink = sink
        self.winner: Contender | None = None
        self._on_won = on_won
        self._is_over = False

    def contender(self, *, is_hedge: bool) -> "Contender":
        """Make the sink of one attempt."""
        return Contender(self, is_hedge)

    def end(self) -> None:
        """Let nobody win any more, and let go of who won: each knows the other, and together they hold the exchange."""
        self.winner = None
        self._is_over = True
        self._on_won = _tell_nobody

    def enter(self, contender: "Contender") -> None:
        """Take the client for one contender. Raises LostRace if another has it."""
        if self.winner is None and not self._is_over:
            self.winner = contender
            self._on_won(contender)
        elif self.winner is not contender:
            raise LostRace("another attempt was faster")


def _tell_nobody(winner: "Contender") -> None:
    """Do nothing: the race is over."""


class Contender:
    """A sink that passes everything on once its attempt has won.

    Args:
        is_hedge: it is the second.
    """

    def __init__(self, race: Race, is_hedge: bool) -> None:
        self._race = race
        self.is_hedge = is_hedge
        self.attempt: Attempt | None = None
        """What is noted of it, once it has begun."""
        self.has_begun = False
        """Its attempt has taken its first step."""

    @property
    def has_lost(self) -> bool:
        """Another one has the client."""
        return self._race.winner not in (None, self)

    @property
    def is_started(self) -> bool:
        """Whether this one's response has begun."""
        return self._race.winner is self and self._race.sink.is_started

    @is_started.setter
    def is_started(self, value: bool) -> None:
        raise AttributeError("only a response that begins sets this")

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Begin, if nobody was faster. Raises LostRace."""
        self._race.enter(self)
        self._race.sink.start(status, headers, length, has_body)

    def write(self, data: bytes) -> bool:
        """Send body bytes."""
        return self._race.sink.write(data)

    def finish(self) -> None:
        """End the response."""
        self._race.sink.finish()

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        """Send a whole response, if nobody was faster. Raises LostRace."""
        self._race.enter(self)
        return self._race.sink.whole(status, headers, body)

    def fail(self, error: ProxyError) -> None:
        """Tell the client of an error."""
        self._race.sink.fail(error)

    def abort(self) -> None:
        """Drop the client's connection."""
        self._race.sink.abort()

    async def drain(self) -> None:
        """Wait for the client."""
        await self._race.sink.drain()
