"""The calls of who reads responses besides the client, in one place: what one raises harms nobody else."""

from collections.abc import Callable
from typing import TypeVar

from proxy.errors import ProxyError
from proxy.events import Events
from proxy.exchange import Audience, Exchange, Reply

AnswerT = TypeVar("AnswerT")


class Audiences:
    """Asks the audiences of exchanges; one that has raised is told only that its exchange has concluded.

    While it listens to a response it is called by `shared_sink.Shared`, which tells here what it raised.
    """

    def __init__(self, events: Events) -> None:
        self._events = events

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """Take note of what one has raised; work that goes on for it alone ends."""
        exchange.has_audience_failed = True
        self._events.emit(
            "ERROR", "plugin_failed", f"a plugin that read a response failed: {error!r}", request_id=exchange.id
        )

    def goes_on(self, exchange: Exchange, end: Callable[[], object]) -> bool:
        """Tell whether the work goes on without the client; then `end` is called once nobody reads any more."""

        def ask(audience: Audience) -> bool:
            if not audience.is_wanted:
                return False
            audience.when_unwanted(end)
            return True

        return self._asked(exchange, ask, False)

    def covers(self, exchange: Exchange, error: ProxyError) -> bool:
        """Tell whether one has an answer that is better than this error."""
        return self._asked(exchange, lambda audience: audience.covers(error), False)

    def instead(self, exchange: Exchange, error: ProxyError) -> Reply | None:
        """Give the answer that is better than this error; None if there is none."""
        if not self.covers(exchange, error):
            return None
        return self._asked(exchange, lambda audience: audience.instead(exchange, error), None)

    def concluded(self, exchange: Exchange) -> None:
        """Tell one that its exchange has ended."""
        audience = exchange.audience
        if audience is None:
            return
        try:
            audience.concluded(exchange)
        except Exception as error:  # foreign code
            self.failed(exchange, error)

    def _asked(self, exchange: Exchange, ask: Callable[[Audience], AnswerT], otherwise: AnswerT) -> AnswerT:
        audience = exchange.audience
        if audience is None or exchange.has_audience_failed:
            return otherwise
        try:
            return ask(audience)
        except Exception as error:  # foreign code
            self.failed(exchange, error)
            return otherwise
