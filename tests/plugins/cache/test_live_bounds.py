"""Settings changed while requests run: bounds hold at once, what is kept stays, and a reset forgets it all."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, Faults, ProxyHarness, encode_request
from tests.plugins.cache.rig import (
    CHAT,
    STREAMED,
    Crowd,
    ask,
    begin,
    change,
    desk_of,
    plugin_of,
    read_all,
    said,
    store_of,
    until_idle,
)


async def fill(proxy: ProxyHarness, count: int, first: int = 0) -> None:
    """Have so many answers kept."""
    for number in range(first, first + count):
        assert said(await ask(proxy, seed=number))[0] == 200
    await until_idle(proxy)


async def set_cache(proxy: ProxyHarness, **settings: Any) -> None:
    await change(proxy, {"cache": settings})


async def test_lower_size_evicts_at_once_and_gives_memory_back(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    await fill(proxy, 30)
    before = store_of(proxy).used_bytes

    await set_cache(proxy, size=10)

    assert len(store_of(proxy)) == 10
    assert store_of(proxy).used_bytes < before / 2
    assert said(await ask(proxy, seed=29))[1] == "hit"


async def test_lower_max_bytes_evicts_at_once(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    await fill(proxy, 30)

    await set_cache(proxy, maxBytes=12_000)

    assert store_of(proxy).used_bytes <= 12_000
    assert 0 < len(store_of(proxy)) < 30


@pytest.mark.parametrize("settings", [{"size": 0}, {"maxBytes": 0}])
async def test_no_room_at_all_keeps_nothing_and_serves_all_the_same(
    proxy: ProxyHarness, upstream: FakeProvider, settings: dict[str, int]
) -> None:
    await begin(proxy, upstream)
    await fill(proxy, 3)

    await set_cache(proxy, **settings)
    replies = [await ask(proxy, seed=1) for _ in range(2)]

    assert [said(each) for each in replies] == [(200, "miss", "absent")] * 2
    assert len(store_of(proxy)) == 0


async def test_bounds_hold_while_they_are_changed_under_load(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    sizes = [5, 40, 1, 20, 3]

    async def load(first: int) -> None:
        for number in range(first, first + 60):
            reply = await ask(proxy, seed=number % 37)
            assert reply.status == 200

    async def turn() -> None:
        for size in sizes:
            await set_cache(proxy, size=size)
            assert len(store_of(proxy)) <= size

    await asyncio.gather(load(0), load(20), load(40), turn())
    await until_idle(proxy)

    assert len(store_of(proxy)) <= sizes[-1]
    assert desk_of(proxy)._config.size == sizes[-1]


async def test_other_settings_leave_what_is_kept(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    await fill(proxy, 3)

    for settings in ({"ttl": 7}, {"coalesce": False}, {"size": 2000}, {"smartCache": True}, {"replay": "paced"}):
        await set_cache(proxy, **settings)
        assert said(await ask(proxy, seed=1)) == (200, "hit", None)

    assert upstream.requests_seen == 3


async def test_ttl_counts_for_what_is_kept_from_then_on(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    await fill(proxy, 1)

    await set_cache(proxy, ttl=0)
    kept_before = said(await ask(proxy, seed=0))
    await fill(proxy, 1, first=1)
    kept_since = said(await ask(proxy, seed=1))

    assert kept_before == (200, "hit", None)
    assert kept_since == (200, "miss", "absent")


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"partition": "shared"}, {}),
        ({"headers": ["X-Tenant"]}, {"headers": {"X-Tenant": "a"}}),
        ({"headers": ["X-Tenant"]}, {}),
        ({"ignore": ["seed"]}, {}),
    ],
)
async def test_other_questions_from_then_on_find_nothing_of_before(
    proxy: ProxyHarness, upstream: FakeProvider, settings: dict[str, Any], asked: dict[str, Any]
) -> None:
    await begin(proxy, upstream)
    await ask(proxy, seed=1)

    await set_cache(proxy, **settings)
    first = said(await ask(proxy, seed=1, **asked))
    again = said(await ask(proxy, seed=1, **asked))

    assert (first, again) == ((200, "miss", "absent"), (200, "hit", None))


async def test_connection_that_was_open_is_asked_by_the_new_settings(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(1, headers={"Authorization": "Bearer a"})
        await read_all(crowd.clients)
        await set_cache(proxy, partition="shared")
        other = await ask(proxy, headers={"Authorization": "Bearer b"})
        client = crowd.clients[0]
        await client.send(_request({"Authorization": "Bearer a"}))
        again = await client.read_response()

    assert (said(other)[1], said(again)[1]) == ("miss", "hit")


def _request(headers: dict[str, str]) -> bytes:
    return encode_request("POST", "/v1/chat/completions", orjson.dumps(CHAT), headers, host="127.0.0.1")


async def test_settings_changed_while_an_answer_comes_keep_it_by_the_new_ones(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(3, STREAMED["openai"])
        await crowd.follow(2)
        await set_cache(proxy, size=0)
        gate.set()
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert {each.status for each in replies} == {200}
    assert (len(store_of(proxy)), upstream.requests_seen) == (0, 1)


@pytest.mark.parametrize("how", ["off", "reset"])
async def test_switched_off_or_reset_while_an_answer_comes_serves_everybody(
    proxy: ProxyHarness, upstream: FakeProvider, how: str
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(5, STREAMED["openai"])
        await crowd.follow(4)
        if how == "off":
            await set_cache(proxy, enabled=False)
        else:
            assert (await proxy.request("POST", "/reset")).status == 200
        gate.set()
        replies = await read_all(crowd.clients)

    assert {each.body for each in replies} == {replies[0].body}
    assert replies[0].body.endswith(b"[DONE]\n\n")
    assert [event.kind for event in proxy.events.recent() if event.kind == "plugin_failed"] == []


async def test_reset_empties_it_and_begins_to_count_anew(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    await fill(proxy, 5)
    await ask(proxy, seed=1)

    answer = await proxy.request("POST", "/reset")
    described = plugin_of(proxy)._ledger.describe()

    assert b'"entries":5' in answer.body.replace(b" ", b"")
    assert (len(store_of(proxy)), len(desk_of(proxy).last_asked), described["hits"]) == (0, 0, 0)
    assert said(await ask(proxy, seed=1)) == (200, "miss", "absent")


async def test_switched_off_it_answers_nothing_and_on_again_it_begins_empty(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream)
    await fill(proxy, 2)

    await set_cache(proxy, enabled=False)
    off = said(await ask(proxy, seed=1))
    await set_cache(proxy, enabled=True)
    on = [said(await ask(proxy, seed=1)) for _ in range(2)]

    assert off == (200, None, None)
    assert on == [(200, "miss", "absent"), (200, "hit", None)]


async def test_what_is_not_deterministic_is_kept_by_smart_cache_only_where_allowed(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream, smartCache=True)
    warm = {"temperature": 0.7}
    outcomes = []

    for settings, fields in (
        ({}, warm),
        ({}, {"temperature": 0.7, "seed": 1}),
        ({}, {"temperature": 0}),
        ({}, {"temperature": 0.7, "seed": None}),
        ({"smart": {"allowRandom": True}}, warm),
        ({"smartCache": False}, {"temperature": 1.5}),
    ):
        await set_cache(proxy, **settings)
        replies = [await ask(proxy, **fields) for _ in range(2)]
        outcomes.append(said(replies[1])[1])
    smart = plugin_of(proxy)._ledger.describe()["smart"]

    assert outcomes == ["miss", "hit", "hit", "miss", "hit", "hit"]
    assert sum(smart["declinedByReason"].values()) == 4
    assert sum(smart["keptByReason"].values()) == 3
    assert upstream.requests_seen == 2 + 1 + 1 + 2 + 1 + 1


async def test_what_was_saved_is_reported_in_dollars_tokens_and_seconds(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    prices = {"fake-model": {"input": 1000, "output": 10_000}}
    await proxy.start(
        providers={"vendor": upstream.provider("openai", prices=prices)},
        cache={"enabled": True, "smartCache": True},
    )
    upstream.reply("Paris", faults=Faults(delay_s=0.05))

    for _ in range(4):
        await ask(proxy, temperature=0)
    saved = plugin_of(proxy)._ledger.describe()["saved"]

    assert saved["usd"] == pytest.approx(3 * (9 * 1000 + 1 * 10_000) / 1e6)
    assert (saved["tokens"], saved["answersWithoutPrice"]) == (30, 0)
    assert 0.15 <= saved["seconds"] < 3
