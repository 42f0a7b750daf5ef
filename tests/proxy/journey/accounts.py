"""What a running proxy holds and has counted: read by tests that prove that all of it is given back."""

import asyncio

from proxy.testing import FakeProvider, ProxyHarness
from tests.e2e.rig import until


def pair(first: FakeProvider, second: FakeProvider, **settings: object) -> dict[str, object]:
    """Two providers for every model, the second asked only after the first."""
    return {"first": first.provider(**settings), "second": second.provider(priority=1)}


def held(proxy: ProxyHarness) -> dict[str, int]:
    """Everything that is taken by requests and must be back at zero once none is in work."""
    pipeline = proxy.app.pipeline
    found = {"process slots": pipeline.slots.in_use, "waiting": pipeline.slots.waiting, "requests": pipeline.in_flight}
    for name, endpoint in pipeline.generation.endpoints.items():
        health = pipeline.generation.health[name]
        found[f"{name} slots"] = endpoint.slots.in_use
        found[f"{name} waiting"] = endpoint.slots.waiting
        found[f"{name} in flight"] = health.in_flight
        found[f"{name} busy connections"] = endpoint.pool.busy if endpoint.pool is not None else 0
        places = [health.breaker, *(lane.breaker for lane in health.lanes())]
        found[f"{name} probes"] = sum(len(breaker._probes) for breaker in places)
    found["hedges"] = sum(task.get_name() in ("hedged attempt", "upload") for task in asyncio.all_tasks())
    return {what: count for what, count in found.items() if count}


async def given_back(proxy: ProxyHarness) -> None:
    """Wait until nothing is held any more."""
    await until(lambda: not held(proxy), "slots, places and counts at zero", 2.0)


async def metric(proxy: ProxyHarness, line: str) -> float:
    """Read one series, named as `/metrics` names it without `proxy_`; 0 where it is not there."""
    text = (await proxy.request("GET", "/metrics")).text
    found = [one for one in text.splitlines() if one.startswith(f"proxy_{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def kinds(proxy: ProxyHarness) -> list[str]:
    """The kinds of all events so far."""
    return [event.kind for event in proxy.events.recent()]
