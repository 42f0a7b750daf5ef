"""A proxy that hedges, behind which the first provider has been quick so far."""

from typing import Any

from proxy.exchange import Exchange
from proxy.testing import FakeProvider, ProxyHarness

USUAL_MS = "40ms"
HEDGING = {"enabled": True, "percentile": 90, "minDelay": USUAL_MS, "budgetPercent": 100, "minRequests": 1}


class Seen:
    """The exchanges of a proxy, as they are when it has noted them."""

    def __init__(self, proxy: ProxyHarness) -> None:
        self.exchanges: list[Exchange] = []
        pipeline = proxy.app.pipeline
        note = pipeline._note

        def noted(generation: Any, exchange: Exchange) -> None:
            self.exchanges.append(exchange)
            note(generation, exchange)

        pipeline._note = noted  # type: ignore[method-assign]  # the only place where all of them come by


async def start(proxy: ProxyHarness, *providers: FakeProvider, seen: int = 1, **sections: Any) -> Seen:
    """Start with providers asked in this order, the first of which has been quick so far."""
    entries = {name: one.provider(priority=at) for at, (name, one) in enumerate(zip("abc", providers, strict=False))}
    await proxy.start(**{"providers": entries, "hedging": HEDGING, **sections})
    for _ in range(seen):
        await proxy.chat("quick")
        await proxy.chat("quick", stream=True)
    for one in providers:
        one.requests.clear()
    return Seen(proxy)


async def ask(proxy: ProxyHarness, *, is_streaming: bool) -> Any:
    return (
        await proxy.chat("Hello", stream=True, stream_options={"include_usage": True})
        if is_streaming
        else (await proxy.chat("Hello"))
    )


def outcome(provider: str, how: str) -> str:
    return f'hedges_total{{outcome="{how}",provider="{provider}"}}'
