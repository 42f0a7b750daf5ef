"""Counts that several processes share in a Redis: exact, atomic, and no request waits for a server that fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from plugins.rate_limit.shared import SharedCounts
from proxy.callers import Identity
from proxy.errors import Refused
from proxy.exchange import Candidate, Exchange, Wait
from proxy.store import StoreUnavailable
from proxy.usage import Price, Usage
from tests.plugins.rate_limit.rig import LimitRig, answered, asking, request, told
from tests.proxy.shared.rig import StoreRig, store_rig
from tests.redis_server import RedisServer

ALGORITHMS = ["token-bucket", "gcra", "fixed-window", "sliding-window", "sliding-log"]
DAY = {"perDay": 100, "burstSize": 100}
"""So long that nothing comes back while the test runs; no day turns in it but once in a day."""


@pytest.fixture
async def stores() -> AsyncIterator[StoreRig]:
    async with store_rig() as made:
        yield made


class Shared(LimitRig):
    """The plugin as one of several processes has it."""

    def __init__(self, stores: StoreRig, **section: Any) -> None:
        super().__init__(
            [Candidate("openai", "gpt-4o", price=Price(2.5, 10.0))],
            **{"store": "shared", "onStoreFailure": "closed", **section},
        )
        self.store = stores.store

    def settings(self, **section: Any) -> Any:  # type: ignore[override]  # bound to the rig's own defaults
        return super().settings(**{"store": "shared", "onStoreFailure": "closed", **section})

    async def asks(self, exchange: Exchange | None = None) -> bool:
        """Whether a request is admitted."""
        return await self.outcome(exchange) is None

    async def outcome(self, exchange: Exchange | None = None) -> tuple[int, str] | None:
        """With which status and code a request is refused; None if it is not."""
        try:
            await self.answer(exchange or request())
        except Refused as refused:
            return refused.status, refused.code
        return None

    async def answer(self, exchange: Exchange) -> None:
        wait = self.plugin.pre_request(exchange)
        assert isinstance(wait, Wait)
        assert await wait.awaitable is None

    async def ends(self, exchange: Exchange) -> None:
        ending = self.plugin.post_response(exchange)
        if ending is not None:
            await ending

    async def count(self, requests: int) -> int:
        return sum(await asyncio.gather(*(self.asks() for _ in range(requests))))


def later_by(seconds: int) -> str:
    """The lines by which the script tells the time, for a time that is to come."""
    return f"local clock = (redis.call('TIME')[1] + {seconds}) * 1000000\n"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_two_proxies_admit_together_exactly_what_the_limit_allows(
    stores: StoreRig, redis_server: RedisServer, algorithm: str
) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    section = {**DAY, "algorithm": algorithm}
    one, other = Shared(stores, **section), Shared(stores, **section)

    admitted = await asyncio.gather(one.count(500), other.count(500))

    assert sum(admitted) == 100


@pytest.mark.parametrize("after", ALGORITHMS)
@pytest.mark.parametrize("before", ALGORITHMS)
async def test_algorithm_changed_live_forgets_nothing(
    stores: StoreRig, redis_server: RedisServer, before: str, after: str
) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, perDay=10, burstSize=10, algorithm=before)
    await rig.count(6)

    rig.change(perDay=10, burstSize=10, algorithm=after)

    assert await rig.count(20) == 4


REFRESHED = {"name": "tpm", "counts": "totalTokens", "amount": 1000, "period": "1d"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_tokens_of_a_request_in_the_background_count_for_all_processes(
    stores: StoreRig, redis_server: RedisServer, algorithm: str
) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    one, other = (Shared(stores, algorithm=algorithm, rules=[REFRESHED]) for _ in range(2))
    refreshed = answered(asking("x", 10), Usage(300, 600))
    refreshed.is_background = True

    await one.ends(refreshed)

    assert not await other.asks(asking("x", 200))
    assert await other.asks(asking("x", 50))


async def test_request_in_the_background_is_none_that_is_limited_and_leaves_reserves_alone(
    stores: StoreRig, redis_server: RedisServer
) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, perDay=2, burstSize=2, rules=[REFRESHED])
    running = asking("x", 500)
    assert await rig.asks(running)
    refreshed = answered(asking("x", 10), Usage(100, 200))
    refreshed.is_background = True

    await rig.ends(refreshed)
    await rig.ends(answered(running, Usage(1, 99)))
    left = [each.left for each in await rig.plugin.levels(asking("x", 10), rig.plugin.sets.general)]
    rig.change(perDay=2, burstSize=2)
    await rig.ends(refreshed)

    assert left == [1, 1000 - 300 - 100]


async def test_request_in_the_background_counts_here_while_the_store_gives_no_answer(stores: StoreRig) -> None:
    await stores.use_now("unix:///nowhere/redis.sock", timeout=0.05)
    rig, other = (Shared(stores, onStoreFailure=each, rules=[REFRESHED]) for each in ("local", "closed"))
    refreshed = answered(asking("x", 10), Usage(300, 600))
    refreshed.is_background = True

    await rig.ends(refreshed)
    await other.ends(refreshed)

    left = [each.plugin._gate.levels(request(), each.plugin.sets.general)[0].left for each in (rig, other)]
    assert left == [100, 1000]


async def test_refused_request_takes_nothing_from_any_rule(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(
        stores, perDay=10, burstSize=10, rules=[{"name": "whole", "per": ["all"], "amount": 2, "period": "1d"}]
    )

    assert await rig.count(20) == 2

    rig.change(perDay=10, burstSize=10)
    assert await rig.count(20) == 8


async def test_client_is_told_what_is_left_on_the_server(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    one, other = Shared(stores, **DAY), Shared(stores, **DAY)
    await one.count(3)
    exchange = request()

    await other.answer(exchange)

    assert told(exchange)["x-ratelimit-remaining"] == "96"


async def test_tokens_are_settled_by_whoever_reserved_them(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rules = [{"name": "out", "counts": "outputTokens", "amount": 1000, "period": "1d"}]
    one, other = Shared(stores, rules=rules), Shared(stores, rules=rules)
    exchange = asking("x", 900)
    await one.answer(exchange)
    assert not await other.asks(asking("x", 200))

    await one.ends(answered(exchange, Usage(10, 20)))

    assert await other.asks(asking("x", 900))


async def test_requests_at_once_are_counted_over_all_processes(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rules = [{"name": "par", "counts": "concurrent", "amount": 3}]
    one, other = Shared(stores, rules=rules), Shared(stores, rules=rules)
    first = request()
    assert await one.asks(first)
    assert await other.count(10) == 2

    await one.ends(first)

    assert await other.count(10) == 1


async def test_places_of_a_process_that_died_come_back(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rules = [{"name": "par", "counts": "concurrent", "amount": 3}]
    assert await Shared(stores, rules=rules).count(10) == 3

    rig = Shared(stores, rules=rules)
    rig.plugin._shared._counts = SharedCounts(later_by(61))

    assert await rig.count(10) == 3


async def test_places_of_running_requests_are_held_for_longer(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, rules=[{"name": "par", "counts": "concurrent", "amount": 3}])
    assert await rig.count(10) == 3

    for offset in (40, 80, 120):
        rig.plugin._shared._counts = SharedCounts(later_by(offset))
        await rig.plugin._shared.renew()

    assert await rig.count(10) == 0


async def test_place_of_a_client_that_leaves_while_it_is_asked_for_comes_back(
    stores: StoreRig, own_redis: RedisServer
) -> None:
    await stores.use(own_redis.unix_url, timeout=10)
    rig = Shared(stores, rules=[{"name": "par", "counts": "concurrent", "amount": 3}])
    earlier = request()
    await rig.asks(earlier)  # now the server knows the script
    await rig.ends(earlier)
    own_redis.freeze()
    leaving = asyncio.create_task(rig.asks())
    for _ in range(20):  # until it is sent
        await asyncio.sleep(0)

    leaving.cancel()
    await asyncio.wait([leaving])
    own_redis.thaw()
    await asyncio.gather(*rig.tasks)

    assert await rig.count(10) == 3


async def test_places_are_free_at_once_when_the_server_is_back(stores: StoreRig, own_redis: RedisServer) -> None:
    """Of a request that ended meanwhile, and of those that the server was too late to answer."""
    await stores.use(own_redis.unix_url)
    rig = Shared(stores, rules=[{"name": "par", "counts": "concurrent", "amount": 3}], onStoreFailure="open")
    rig.plugin._shared._owed._sleep = lambda seconds: asyncio.sleep(0.01)
    ending = request()
    await rig.asks(ending)
    own_redis.freeze()
    try:
        while "store_down" not in stores.told:
            await rig.asks()
        await rig.ends(ending)
    finally:
        own_redis.thaw()
    await stores.until("store_up")
    await asyncio.gather(*rig.tasks)

    assert await rig.count(10) == 3


async def test_places_are_not_owed_for_longer_than_the_server_holds_them(
    stores: StoreRig, own_redis: RedisServer
) -> None:
    await stores.use(own_redis.unix_url)
    rig = Shared(stores, rules=[{"name": "par", "counts": "concurrent", "amount": 3}])
    ending = request()
    await rig.asks(ending)
    own_redis.stop()

    await rig.ends(ending)
    await asyncio.gather(*rig.tasks)

    assert len(rig.naps) == 60
    assert not rig.plugin._shared._owed._places


async def test_place_of_a_request_that_ends_while_others_are_held_for_longer_stays_free(
    stores: StoreRig, redis_server: RedisServer
) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, rules=[{"name": "par", "counts": "concurrent", "amount": 3}])
    first, second = request(), request()
    assert await rig.asks(first)
    assert await rig.asks(second)

    class Slow(SharedCounts):
        async def renew(self, *arguments: Any) -> None:
            await rig.ends(second)
            await super().renew(*arguments)

    rig.plugin._shared._counts = Slow()
    await rig.plugin._shared.renew()

    assert await rig.count(10) == 2


async def test_shadow_rule_reports_and_refuses_nobody(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, rules=[{"name": "tried", "amount": 2, "period": "1d", "mode": "shadow"}])

    assert await rig.count(5) == 5
    assert len(rig.told("rate_limited")) == 1


async def test_explain_asks_the_server_and_takes_nothing(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, perDay=2, burstSize=2)
    await rig.count(1)

    levels = [await rig.plugin.levels(request(), rig.plugin.sets.general) for _ in range(3)]

    assert [level[0].left for level in levels] == [1, 1, 1]


@pytest.mark.parametrize(("caller", "left"), [(None, 2), ("key:alice", 1)])
async def test_reset_forgets_all_or_one_caller(
    stores: StoreRig, redis_server: RedisServer, caller: str | None, left: int
) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, perDay=1, burstSize=1)
    callers = [Identity("alice", "Alice"), Identity("bob", "Bob")]
    for who in callers:
        await rig.asks(request(identity=who))

    await rig.plugin.forget(None, caller)

    assert sum([await rig.asks(request(identity=who)) for who in callers]) == left


async def test_flushed_server_counts_anew(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, perDay=2, burstSize=2)
    assert await rig.count(5) == 2

    redis_server.ask("FLUSHALL")
    redis_server.ask("SCRIPT", "FLUSH")

    assert await rig.count(5) == 2


FULL_LOG = """
local log, time = {}, redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
for k = 1, 10000 do
  table.insert(log, clock - 61000000 + k)
  table.insert(log, 1)
end
local state = {a = 'sliding-log', n = 10000, p = 60000000, d = 10000, z = clock - 61000000, q = 0, m = 0, e = {}}
state.l, state.u = log, 10000
redis.call('SET', KEYS[1], cmsgpack.pack(state))
"""
"""A state as the script keeps it, of requests all of which are too old to count."""


async def test_long_log_that_is_forgotten_holds_up_nobody_else_on_the_server(
    stores: StoreRig, own_redis: RedisServer
) -> None:
    await stores.use(own_redis.unix_url, timeout=10)
    rig = Shared(stores, rules=[{"name": "log", "amount": 10_000, "algorithm": "sliding-log"}])
    await rig.asks()
    key = (await rig.store.call(lambda redis: redis.keys("*")))[0]
    await rig.store.call(lambda redis: redis.eval(FULL_LOG, 1, key))

    began_s = time.monotonic()
    exchange = request()
    await rig.answer(exchange)

    assert time.monotonic() - began_s < 0.5
    assert told(exchange)["x-ratelimit-remaining"] == "9999"


async def test_server_holds_no_credential_and_its_counts_expire(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, perMinute=2, rules=[{"name": "a", "per": ["header:X-Team"], "amount": 2}])
    await rig.asks(request("sk-canary-in-the-mine", headers={"X-Team": "canary"}))

    keys = await stores.store.call(lambda redis: redis.keys("*"))
    lives_ms = [await stores.store.call(lambda redis, key=key: redis.pttl(key)) for key in keys]  # type: ignore[misc]

    assert len(keys) == 2
    assert all(key.startswith(b"switchyard:{limits}:") and b"canary" not in key for key in keys)
    assert all(0 < life_ms <= 200_000 for life_ms in lives_ms)


class TestFailing:
    @pytest.mark.parametrize(
        ("on_failure", "admitted", "refusal"),
        [("open", 50, None), ("closed", 0, (503, "rate_limit_unavailable")), ("local", 5, (429, "rate_limited"))],
    )
    async def test_what_was_chosen_holds_while_the_server_is_away(
        self, stores: StoreRig, own_redis: RedisServer, on_failure: str, admitted: int, refusal: object
    ) -> None:
        await stores.use(own_redis.unix_url)
        rig = Shared(stores, perDay=5, burstSize=5, onStoreFailure=on_failure)
        own_redis.stop()

        outcomes = [await rig.outcome() for _ in range(50)]

        assert outcomes.count(None) == admitted
        assert set(outcomes) - {None} <= {refusal}

    async def test_frozen_server_holds_nobody_up_once_that_is_known(
        self, stores: StoreRig, own_redis: RedisServer
    ) -> None:
        await stores.use(own_redis.unix_url, timeout=0.05, breaker={"failures": 3, "cooldown": 60, "maxCooldown": 60})
        rig = Shared(stores, perDay=1000, burstSize=1000, onStoreFailure="local")
        own_redis.freeze()
        try:
            waits_s = []
            for _ in range(50):
                began_s = time.monotonic()
                assert await rig.asks()
                waits_s.append(time.monotonic() - began_s)
        finally:
            own_redis.thaw()

        assert sorted(waits_s)[-4] < 0.05
        assert [kind for kind in stores.told if kind.startswith("store_")] == ["store_down"]

    async def test_counting_goes_on_at_the_server_when_it_is_back(
        self, stores: StoreRig, own_redis: RedisServer
    ) -> None:
        await stores.use(own_redis.unix_url)
        rig = Shared(stores, perDay=3, burstSize=3, onStoreFailure="local")
        own_redis.stop()
        assert await rig.count(10) == 3
        own_redis.start()
        await stores.until("store_up")

        assert await rig.count(10) == 3

    async def test_without_a_server_in_the_settings_it_is_as_if_that_failed(self, stores: StoreRig) -> None:
        rig = LimitRig(perDay=2, burstSize=2, store="shared")

        answers = [rig.wait(request()).awaitable for _ in range(2)]
        assert [await answer for answer in answers] == [None, None]
        with pytest.raises(Refused):
            await rig.wait(request()).awaitable
        assert [issue.kind for issue in rig.plugin.config_issues()] == ["rate_limit_store_missing"]

    async def test_what_was_reserved_before_it_failed_stays_reserved(
        self, stores: StoreRig, own_redis: RedisServer
    ) -> None:
        await stores.use(own_redis.unix_url)
        rules = [{"name": "out", "counts": "outputTokens", "amount": 1000, "period": "1d"}]
        rig = Shared(stores, rules=rules, onStoreFailure="open")
        exchange = asking("x", 900)
        await rig.answer(exchange)
        own_redis.freeze()
        try:
            while "store_down" not in stores.told:
                await rig.asks(asking("x", 1))
            await rig.ends(answered(exchange, Usage(10, 20)))
        finally:
            own_redis.thaw()
        await stores.until("store_up")

        assert not await rig.asks(asking("x", 200))

    async def test_operator_is_told_that_nothing_could_be_forgotten(
        self, stores: StoreRig, own_redis: RedisServer
    ) -> None:
        await stores.use(own_redis.unix_url)
        rig = Shared(stores, perDay=5)
        own_redis.stop()

        with pytest.raises(StoreUnavailable):
            await rig.plugin.forget(None, None)


async def test_request_waits_for_room_on_the_server(stores: StoreRig, redis_server: RedisServer) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rules = [{"name": "slow", "amount": 1, "period": "200ms", "algorithm": "sliding-log", "queue": "5s"}]
    rig = Shared(stores, rules=rules)
    rig.plugin._waiting._sleep = asyncio.sleep
    rig.now_s = time.time()
    await rig.asks()
    began_s = time.monotonic()

    assert await rig.asks()

    assert 0.1 < time.monotonic() - began_s < 5


async def test_leaky_bucket_on_the_server_lets_a_crowd_go_one_by_one(
    stores: StoreRig, redis_server: RedisServer
) -> None:
    await stores.use(redis_server.unix_url, timeout=10)
    rig = Shared(stores, perDay=100, burstSize=3, algorithm="leaky-bucket")

    admitted = await rig.count(10)

    assert admitted == 3
    assert sorted(round(nap) for nap in rig.naps) == [864, 1728]
