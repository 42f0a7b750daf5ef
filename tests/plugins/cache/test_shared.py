"""The second store: what one proxy kept another one finds; clearing it holds nobody up."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.cache.codec import Line, decode, encode
from plugins.cache.shared import STEP, SharedEntries
from proxy.config.store_models import StoreSettings
from proxy.events import Events
from proxy.metrics import Registry
from proxy.shared.stores import SharedStores
from proxy.store import StoreRefused, StoreUnavailable
from proxy.tasks import Tasks
from tests.plugins.cache.entries import digest, make_entry
from tests.redis_server import RedisServer

Connect = Callable[..., Any]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make a proxy's view of the store at some URL."""
    made: list[tuple[SharedStores, Tasks]] = []

    async def connect(url: str, **given: Any) -> SharedEntries:
        tasks = Tasks(Events())
        stores = SharedStores(Registry(), Events(), tasks, time.monotonic)
        made.append((stores, tasks))
        (await stores.prepare(StoreSettings.model_validate({"url": url, "timeout": 2, **given})))()
        return SharedEntries(stores.current)

    yield connect
    for stores, tasks in made:
        await stores.close()
        await tasks.close()


def entry_bytes(name: object, **fields: Any) -> bytes:
    written = encode(make_entry(name, **fields))
    assert written is not None
    return written


async def test_entry_of_one_proxy_is_found_by_another(connect: Connect, redis_server: RedisServer) -> None:
    one, other = await connect(redis_server.url), await connect(redis_server.unix_url)

    await one.set(digest("a"), entry_bytes("a"), 60)
    found = await other.get(digest("a"))

    assert decode(found, digest("a")) == make_entry("a")
    assert await other.get(digest("b")) is None


@settings(
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture], max_examples=30
)
@given(values=st.lists(st.binary(max_size=2000), min_size=1, max_size=3))
async def test_whatever_the_bytes_they_come_back_as_they_were(
    connect: Connect, redis_server: RedisServer, values: list[bytes]
) -> None:
    entries = await connect(redis_server.url)

    for position, value in enumerate(values):
        await entries.set(digest(position), value, 60)

    assert [await entries.get(digest(position)) for position in range(len(values))] == values


async def test_names_begin_with_the_prefix_and_proxies_of_another_one_find_nothing(
    connect: Connect, redis_server: RedisServer
) -> None:
    mine, other = await connect(redis_server.url, prefix="mine"), await connect(redis_server.url, prefix="other")

    await mine.set(digest("a"), b"1", 60)

    assert redis_server.ask("EXISTS", f"mine:cache:{digest('a').hex()}") == ":1"
    assert await other.get(digest("a")) is None
    assert await other.clear() == 0
    assert await mine.get(digest("a")) == b"1"


@pytest.mark.parametrize(("ttl_s", "least_ms", "most_ms"), [(60, 59_000, 60_000), (1.5, 1, 1500), (1e12, 1e11, 1e12)])
async def test_entry_goes_when_its_time_is_over(
    connect: Connect, redis_server: RedisServer, ttl_s: float, least_ms: float, most_ms: float
) -> None:
    entries = await connect(redis_server.url)

    await entries.set(digest("a"), b"1", ttl_s)

    left_ms = int(redis_server.ask("PTTL", f"switchyard:cache:{digest('a').hex()}")[1:])
    assert least_ms <= left_ms <= most_ms


@pytest.mark.parametrize("ttl_s", [0, 0.0004])
async def test_entry_without_any_time_is_not_kept(connect: Connect, redis_server: RedisServer, ttl_s: float) -> None:
    entries = await connect(redis_server.url)

    await entries.set(digest("a"), b"1", ttl_s)

    assert redis_server.ask("DBSIZE") == ":0"


async def test_some_are_deleted_and_those_that_were_there_counted(connect: Connect, redis_server: RedisServer) -> None:
    entries = await connect(redis_server.url)
    for number in range(3):
        await entries.set(digest(number), b"1", 60)

    deleted = await entries.delete([digest(number) for number in range(1, 2 * STEP)])

    assert deleted == 2
    assert await entries.get(digest(0)) == b"1"
    assert await entries.delete([]) == 0


async def test_all_are_cleared_and_nobody_else_s(connect: Connect, redis_server: RedisServer) -> None:
    entries = await connect(redis_server.url)
    for number in range(3 * STEP):
        await entries.set(digest(number), b"1", 60)
    redis_server.ask("SET", "switchyard:limits:a", "1")
    redis_server.ask("SET", "switchyard:cached", "1")

    assert await entries.clear() == 3 * STEP
    assert redis_server.ask("DBSIZE") == ":2"


async def test_those_that_are_chosen_by_what_they_say_of_themselves_are_cleared(
    connect: Connect, redis_server: RedisServer
) -> None:
    entries = await connect(redis_server.url)
    kept = {"partition": "key:b", "model": "gpt-4o"}
    for number in range(2 * STEP):
        fields = {"partition": "key:a", "model": "gpt-4o"} if number % 2 else kept
        await entries.set(digest(number), entry_bytes(number, **fields), 60)
    old = entry_bytes("old", stored_s=10.0, **kept)
    await entries.set(digest("old"), old, 60)

    by_partition = await entries.clear(lambda line: line.partition == "key:a")
    by_age = await entries.clear(lambda line: line.stored_s < 100)

    assert (by_partition, by_age) == (STEP, 1)
    assert redis_server.ask("DBSIZE") == f":{STEP}"


@pytest.mark.parametrize(
    "value", [b"", b"no entry", entry_bytes("b", model="m" * 10_000)], ids=["empty", "junk", "long"]
)
async def test_what_cannot_be_read_goes_with_those_that_are_chosen(
    connect: Connect, redis_server: RedisServer, value: bytes
) -> None:
    entries = await connect(redis_server.url)
    await entries.set(digest("a"), entry_bytes("a"), 60)
    await entries.set(digest("b"), value, 60)

    def nobody(line: Line) -> bool:
        return False

    assert await entries.clear(nobody) == 1
    assert await entries.get(digest("a")) is not None


async def test_name_that_holds_something_else_is_an_error_of_the_store(
    connect: Connect, redis_server: RedisServer
) -> None:
    entries = await connect(redis_server.url)
    redis_server.ask("RPUSH", f"switchyard:cache:{digest('a').hex()}", "1")

    with pytest.raises(StoreRefused):
        await entries.get(digest("a"))
    await entries.set(digest("a"), b"1", 60)

    assert await entries.get(digest("a")) == b"1"


async def test_without_a_store_nothing_is_found_and_it_says_why() -> None:
    with pytest.raises(StoreUnavailable, match=r"store\.url"):
        await SharedEntries(lambda: None).get(digest("a"))


async def test_store_that_takes_another_s_place_is_asked_from_then_on(
    redis_server: RedisServer, own_redis: RedisServer, connect: Connect
) -> None:
    views = [await connect(redis_server.url), await connect(own_redis.url, prefix="other")]
    current = iter([views[0]._store(), *[views[1]._store()] * 2])
    entries = SharedEntries(lambda: next(current))
    await entries.set(digest("a"), b"1", 60)

    assert await entries.get(digest("a")) is None
    await entries.set(digest("a"), b"2", 60)
    assert own_redis.ask("EXISTS", f"other:cache:{digest('a').hex()}") == ":1"


async def test_frozen_store_fails_within_its_time(connect: Connect, own_redis: RedisServer) -> None:
    entries = await connect(own_redis.url, timeout=0.1)
    await entries.get(digest("a"))
    own_redis.freeze()

    began_s = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            await entries.get(digest("a"))

    assert time.monotonic() - began_s < 3 * 0.1 + 0.3


def test_libraries_are_not_loaded_before_there_is_a_store() -> None:
    code = "import plugins.cache.shared, sys; sys.exit('aiocache' in sys.modules or 'redis' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
