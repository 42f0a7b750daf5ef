"""The plugin under test with a clock that stands still, and requests of callers."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from plugins.rate_limit.plugin import RateLimitPlugin
from plugins.rate_limit.settings import RateLimitConfig
from proxy.errors import Refused
from proxy.exchange import Attempt, Candidate, Exchange, Operation, Request, Wait
from proxy.store import SharedStore
from proxy.usage import Price, Usage
from tests.plugins.rig import CHAT, Rig

BEGIN_S = 1_790_000_040.0
"""The beginning of a minute, and of no hour."""


class LimitRig(Rig):
    """The plugin with what surrounds it."""

    def __init__(self, targets: Sequence[Candidate] = (Candidate("openai", "gpt-4o"),), **section: Any) -> None:
        super().__init__()
        self.now_s = BEGIN_S
        self.naps: list[float] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.targets: Callable[[Exchange], Sequence[Candidate]] = lambda exchange: targets
        """May be replaced."""
        self.context = replace(
            self.context,
            clock=lambda: self.now_s,
            wall_clock=lambda: self.now_s,
            targets=self._find,
        )
        self.store: SharedStore | None = None
        self.context = replace(self.context, store=lambda: self.store)
        self.plugin = RateLimitPlugin(self.settings(**section), self.context, self.sleep)

    def _find(self, exchange: Exchange) -> Sequence[Candidate]:
        return self.targets(exchange)

    def _spawn(self, coro: Coroutine[Any, Any, object], *, name: str) -> "asyncio.Task[Any]":
        self.tasks.append(super()._spawn(coro, name=name))
        return self.tasks[-1]

    @staticmethod
    def settings(**section: Any) -> RateLimitConfig:
        return RateLimitConfig.model_validate({"enabled": True, "perHour": "none", **section})

    def change(self, **section: Any) -> None:
        """Change the settings live."""
        config = self.settings(**section)
        self.plugin.reconfigure(config)
        self.plugin.config = config

    async def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.naps.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def passes(self, exchange: Exchange | None = None) -> bool:
        """Whether a request is admitted at once."""
        try:
            answer = self.plugin.pre_request(exchange or request())
        except Refused:
            return False
        assert answer is None
        return True

    def refused(self, exchange: Exchange | None = None) -> Refused:
        """How a request is refused."""
        try:
            answer = self.plugin.pre_request(exchange or request())
        except Refused as refused:
            return refused
        raise AssertionError(f"was not refused: {answer}")

    def admitted(self, count: int, make: Callable[[], Exchange] | None = None) -> int:
        """How many of so many requests at one time are admitted."""
        return sum(self.passes((make or request)()) for _ in range(count))

    def wait(self, exchange: Exchange) -> Wait:
        answer = self.plugin.pre_request(exchange)
        assert isinstance(answer, Wait)
        return answer


def request(caller: str | None = "sk-alice-000001", **fields: Any) -> Exchange:
    """A request as it comes to the plugin; what is no field of a request is the exchange's."""
    of_exchange = {name: fields.pop(name) for name in ("peer", "identity") if name in fields}
    headers = {"X-Team": "red"} | fields.pop("headers", {})
    operation: Operation = fields.pop("operation", CHAT)
    inner = Request(
        operation,
        method="POST",
        path=b"/v1/chat/completions",
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        **{"model": "gpt-4o", "document": {}, **fields},
    )
    exchange = Exchange(inner, id="r-1", received_s=BEGIN_S, peer=of_exchange.pop("peer", "192.0.2.1"), caller=caller)
    for name, value in of_exchange.items():
        setattr(exchange, name, value)
    return exchange


def asking(text: str, most: int | None = None, **fields: Any) -> Exchange:
    """A request with a prompt."""
    return request(document={"messages": text}, body=text.encode(), max_output_tokens=most, **fields)


def answered(exchange: Exchange, usage: Usage | None, *, bytes_out: int = 100, price: Price | None = None) -> Exchange:
    """The same after a provider has answered it."""
    attempt = Attempt("openai", "gpt-4o", BEGIN_S)
    attempt.price = price
    attempt.status = exchange.status = 200
    exchange.attempts, exchange.attempt, exchange.usage, exchange.bytes_out = [attempt], attempt, usage, bytes_out
    return exchange


def told(exchange: Exchange) -> dict[str, str]:
    """The headers the client gets, by lower-case name."""
    lines = exchange.told.decode("latin-1").split("\r\n")[:-1]
    names = [line.partition(": ")[0].lower() for line in lines]
    assert len(names) == len(set(names)), "a header stands there twice"
    return {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}
