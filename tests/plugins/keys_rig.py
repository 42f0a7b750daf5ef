"""The keys plugin with its parts at hand: a clock to turn, operators' calls and clients' requests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from plugins.keys.plugin import KeysPlugin
from plugins.keys.settings import KeysConfig
from proxy.exchange import Attempt, Candidate, Exchange, Operation, Request
from proxy.plugin import AdminReply, AdminRequest
from proxy.usage import Price, Usage
from tests.plugins.rig import CHAT, Rig

START_S = 1_770_000_000.0
"""2026-02-02T02:40:00Z."""
PRICE = Price(1000.0, 1000.0)
"""A tenth of a cent a token, so that sums are easy."""


class KeysRig:
    """`async with KeysRig(folder) as keys:` starts the plugin; leaving it shuts it down."""

    def __init__(self, folder: Path, **section: Any) -> None:
        self.rig = Rig()
        self.now_s = START_S
        self.candidates: Sequence[Candidate] = (Candidate("fake", "gpt-4o", price=PRICE),)
        context = replace(
            self.rig.context,
            clock=lambda: self.now_s,
            wall_clock=lambda: self.now_s,
            state_dir=folder,
            targets=lambda exchange: self.candidates,
        )
        self.plugin = KeysPlugin(KeysConfig.model_validate({"enabled": True, **section}), context)
        self._handlers = {(route.method, route.path): route.handler for route in self.plugin.admin_routes()}

    async def __aenter__(self) -> Self:
        await self.plugin.startup()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.plugin.shutdown()

    # -- operators ---------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        key_id: str = "",
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> Any:
        """Call a route; gives the JSON that it answers."""
        params = {"id": key_id} if key_id else {}
        request = AdminRequest(method, path, params, query, body, dict(headers or {}), "127.0.0.1", True)
        answer = await self._handlers[method, path](request)
        return answer.body if isinstance(answer, AdminReply) else answer

    async def create(self, name: str = "team-a", **settings: Any) -> Any:
        """Make a key."""
        return await self.call("POST", "/keys", {"name": name, **settings})

    async def change(self, key_id: str, **settings: Any) -> Any:
        """Change a key."""
        return await self.call("PATCH", "/keys/{id}", settings, key_id)

    async def show(self, key_id: str) -> Any:
        """Look at a key."""
        return await self.call("GET", "/keys/{id}", key_id=key_id)

    # -- clients -----------------------------------------------------------------------------------------------------

    def begin(self, text: str | None, **fields: Any) -> Exchange:
        """Bring a request to the gate; raises what refuses it."""
        exchange = asked(text, **fields)
        self.plugin.pre_request(exchange)
        return exchange

    def end(self, exchange: Exchange, input_tokens: int | None = 0, output_tokens: int | None = 0) -> None:
        """End a request well, with these tokens."""
        exchange.usage = Usage(input_tokens, output_tokens)
        exchange.status = exchange.status or 200
        exchange.attempt = Attempt("fake", "gpt-4o", 0.0)
        exchange.attempt.price = self.candidates[0].price
        exchange.attempts.append(exchange.attempt)
        self.plugin.post_response(exchange)

    def refused(self) -> dict[str, float]:
        """Count refusals by reason."""
        counter = self.rig.metrics.counter("keys_refused_total", "", ("reason",))
        return {labels[0]: series.value for labels, series in counter.items()}


def asked(
    text: str | None,
    *,
    model: str | None = "gpt-4o",
    operation: Operation = CHAT,
    named_provider: str | None = None,
    **fields: Any,
) -> Exchange:
    """A request of a client that shows a key."""
    request = Request(operation, method="POST", path=b"/", model=model, **fields)
    return Exchange(request, id="r-1", received_s=0.0, peer="192.0.2.1", caller=text, named_provider=named_provider)
