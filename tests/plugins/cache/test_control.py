"""What clients may say about being answered from the cache, and what they are told of it (RFC 9111, 5.2.1)."""

from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyHarness, RawClient
from tests.plugins.cache.rig import (
    STREAMED,
    WHOLE,
    Clock,
    ask,
    begin,
    not_kept,
    plugin_of,
    said,
    store_of,
    until_idle,
)

HIT, STALE = (200, "hit", None), (200, "stale", None)
MISSES = {name: (200, "miss", name) for name in ("absent", "expired", "no-cache")}
OLD, SOON = (200, "miss", "older than max-age"), (200, "miss", "less than min-fresh left")

WISHES = [
    ("", 10, HIT),
    ("max-age=10", 10, HIT),
    ("max-age=9", 10, OLD),
    ("max-age=0", 0, HIT),
    ("max-age=0", 1, OLD),
    ("max-age=junk", 1, OLD),
    ("max-age=9, max-age=100", 10, OLD),
    ("min-fresh=50", 10, HIT),
    ("min-fresh=51", 10, SOON),
    ("max-stale", 600, STALE),
    ("max-stale=40", 100, STALE),
    ("max-stale=39", 100, MISSES["expired"]),
    ("max-stale=39", 10, HIT),
    ("no-cache", 10, MISSES["no-cache"]),
    ("No-Cache", 10, MISSES["no-cache"]),
    ("no-cache=x, only-if-cached", 10, (504, "miss", "no-cache")),
    ("no-store", 10, HIT),
    ("no-store", 700, MISSES["absent"]),
    ("only-if-cached", 10, HIT),
    ("only-if-cached", 61, (504, "miss", "expired")),
    ("only-if-cached, max-stale", 61, STALE),
    ("no-transform, stale-if-error=5, x", 10, HIT),
]


@pytest.mark.parametrize(("control", "later_s", "outcome"), WISHES)
async def test_wish_of_a_client_is_heeded(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, control: str, later_s: float, outcome: Any
) -> None:
    await begin(proxy, upstream, ttl=60, staleIfError=600)
    await ask(proxy)
    clock.now_s += later_s

    reply = await ask(proxy, headers={"Cache-Control": control})

    assert said(reply) == outcome
    assert reply.header("age") == (str(int(later_s)) if outcome in (HIT, STALE) else None)


async def test_directives_in_two_headers_both_count(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    body = orjson.dumps(WHOLE["openai"].document)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
    controls = b"Cache-Control: no-store\r\ncache-control: max-age=60\r\n\r\n"

    async with RawClient(proxy.url) as client:
        await client.send(head % len(body) + controls + body)
        reply = await client.read_response()
    await until_idle(proxy)

    assert (said(reply), len(store_of(proxy))) == (MISSES["absent"], 0)


async def test_nothing_kept_is_told_with_504_and_the_code(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)

    reply = await ask(proxy, headers={"Cache-Control": "only-if-cached"})

    assert (reply.status, orjson.loads(reply.body)["error"]["code"]) == (504, "not_cached")
    assert b"absent" in reply.body
    assert upstream.requests_seen == 0


async def test_only_if_cached_waits_for_nobody_elses_answer_and_large_ones_in_another_form_are_none(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream)
    upstream.stream(["x" * 1000] * 50)
    await ask(proxy, STREAMED["openai"])  # tells no usage, so that it cannot be given whole

    refused = await ask(proxy, headers={"Cache-Control": "only-if-cached"})
    unkept = await ask(proxy, headers={"Cache-Control": "no-store"})
    again = await ask(proxy, STREAMED["openai"])

    assert (refused.status, b"kept in another form" in refused.body) == (504, True)
    assert (said(unkept), said(again)) == ((200, "miss", "kept in another form"), HIT)
    assert upstream.requests_seen == 2


async def test_answer_to_no_cache_is_kept_for_others(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    upstream.once.reply("old")
    upstream.once.reply("new")
    await ask(proxy)

    renewed = await ask(proxy, headers={"Cache-Control": "no-cache"})
    again = await ask(proxy)

    assert (said(renewed), said(again)) == (MISSES["no-cache"], HIT)
    assert again.body == renewed.body
    assert upstream.requests_seen == 2


async def test_answer_to_no_store_is_kept_for_nobody(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)

    await ask(proxy, headers={"Cache-Control": "no-store"})
    again = await ask(proxy)

    assert (said(again), len(store_of(proxy))) == (MISSES["absent"], 1)


@pytest.mark.parametrize(("ttl", "later_s", "outcome"), [("5", 4, HIT), ("5", 5, MISSES["absent"]), ("2h", 7000, HIT),
                                                        ("junk", 59, HIT), ("junk", 60, MISSES["absent"]),
                                                        ("0", 0, MISSES["absent"]), ("-1", 59, HIT)])  # fmt: skip
async def test_ttl_of_a_request_counts_for_its_own_answer(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, ttl: str, later_s: float, outcome: Any
) -> None:
    await begin(proxy, upstream, ttl=60)
    await ask(proxy, headers={"X-Cache-TTL": ttl})
    clock.now_s += later_s

    assert said(await ask(proxy)) == outcome


async def test_answer_with_no_time_to_live_is_told_apart_from_one_for_which_there_is_no_room(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream, ttl=60, maxBytes="4KB", maxEntry="4KB")
    await ask(proxy, headers={"X-Cache-TTL": "0"})
    upstream.reply("Paris" * 700)

    await ask(proxy)

    assert not_kept(proxy) == {"no time to live": 1, "no room": 1}


async def test_equal_salts_share_and_others_do_not(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)

    replies = [await ask(proxy, headers={"X-Cache-Salt": salt}) for salt in ("a", "b", "a", "A")]

    assert [said(each)[1] for each in replies] == ["miss", "miss", "hit", "miss"]


async def test_bypass_leaves_the_cache_out_of_it(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    await ask(proxy)

    bypassed = await ask(proxy, headers={"X-Cache": " Bypass "}, temperature=0.5)
    known = await ask(proxy, headers={"X-Cache": "bypass"})

    assert said(bypassed) == said(known) == (200, "bypass", "the request asks for it")
    assert (len(store_of(proxy)), upstream.requests_seen) == (1, 3)


@pytest.mark.parametrize(
    "headers",
    [
        {"Cache-Control": "no-cache"},
        {"Cache-Control": "max-age=0"},
        {"Cache-Control": "no-store"},
        {"X-Cache": "bypass"},
        {"X-Cache-TTL": "1s"},
        {"X-Cache-Salt": "a"},
        {"Cache-Control": "only-if-cached, min-fresh=1000000"},
    ],
)
async def test_clients_say_nothing_where_that_is_switched_off(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, headers: dict[str, str]
) -> None:
    await begin(proxy, upstream, clientControl=False)
    await ask(proxy, headers=headers)
    clock.now_s += 5

    assert (said(await ask(proxy, headers=headers)), upstream.requests_seen) == (HIT, 1)


async def test_our_headers_do_not_reach_the_provider_as_its_answers_ours_do_not_reach_the_client_twice(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream)
    upstream.reply("Paris", headers={"Set-Cookie": "a=b", "X-Ratelimit-Remaining": "5", "Date": "now"})

    miss = await ask(proxy)
    hit = await ask(proxy)

    assert [name.lower() for name, _ in hit.headers].count("x-cache") == 1
    assert [name.lower() for name, _ in miss.headers].count("x-cache") == 1
    assert (hit.header("set-cookie"), hit.header("x-ratelimit-remaining")) == (None, None)
    assert hit.header("x-provider") == miss.header("x-provider") == "vendor"
    assert hit.header("x-request-id") != miss.header("x-request-id")


async def test_every_outcome_is_told_and_counted(proxy: ProxyHarness, upstream: FakeProvider, clock: Clock) -> None:
    await begin(proxy, upstream, ttl=60, staleWhileRevalidate=60)
    outcomes = [said(await ask(proxy)), said(await ask(proxy))]
    clock.now_s += 61
    outcomes.append(said(await ask(proxy)))
    await upstream.wait_for_request(2)
    await until_idle(proxy)
    outcomes.append(said(await ask(proxy, headers={"X-Cache": "bypass"})))
    upstream.reply_status(400)
    outcomes.append(said(await ask(proxy, n=2)))
    await until_idle(proxy)

    described = plugin_of(proxy)._ledger.describe()

    assert [outcome for _, outcome, _ in outcomes] == ["miss", "hit", "stale", "bypass", "miss"]
    counts = [described[name] for name in ("misses", "hits", "stale", "bypassed", "refreshed", "coalesced")]
    assert counts == [2, 1, 1, 1, 1, 0]
    assert described["missesByReason"] == {"absent": 2}
    metrics = (await proxy.request("GET", "/metrics")).text
    assert 'cache_misses_total{reason="absent"} 2' in metrics
    assert outcomes[-1] == (400, "miss", "absent")


async def test_whatever_clients_send_the_reasons_stay_few(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)

    async with RawClient(proxy.url) as client:
        for number in range(300):
            headers = {"Cache-Control": f"max-age={number}, x-{number}", "X-Cache-TTL": f"{number}x",
                       "X-Cache": f"b{number}", "X-Cache-Salt": str(number)}  # fmt: skip
            body = orjson.dumps({**WHOLE["openai"].document, f"field{number}": number})
            await client.request("POST", "/v1/chat/completions", body, headers)
    ledger, desk = plugin_of(proxy)._ledger, plugin_of(proxy)._desk

    assert set(ledger.describe()["missesByReason"]) == {"absent"}
    assert len(desk.last_asked) == 256
