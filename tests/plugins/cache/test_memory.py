"""What is kept in memory: never more than allowed, never too old, and what is asked for again stays."""

import gc
import timeit
import tracemalloc
from collections.abc import Callable
from itertools import accumulate
from random import Random

import pytest

from plugins.cache.entry import Entry
from plugins.cache.memory import CLOCK_STEP_S, MemoryStore
from tests.plugins.cache.entries import digest, make_entry

PLENTY = 10**12


def filled(store: MemoryStore, *names: object, **fields: object) -> MemoryStore:
    for name in names:
        assert store.put(make_entry(name, **fields), 1000.0)
    return store


def kept(store: MemoryStore) -> set[bytes]:
    return {entry.key for entry, _ in store.newest(10**6)}


def hit_ratio(access: Callable[[int], bool], keys: list[int]) -> float:
    return sum(map(access, keys)) / len(keys)


def access_of(store: MemoryStore) -> Callable[[int], bool]:
    entries: dict[int, Entry] = {}

    def access(number: int) -> bool:
        entry = entries.get(number) or entries.setdefault(number, make_entry(number))
        return store.get(entry.key, 1000.0) is not None or not store.put(entry, 1000.0)

    return access


def lru_of(size: int) -> Callable[[int], bool]:
    held: dict[int, None] = {}

    def access(number: int) -> bool:
        is_hit = number in held
        held.pop(number, None)
        held[number] = None
        if len(held) > size:
            del held[next(iter(held))]
        return is_hit

    return access


def zipf(random: Random, count: int, keys: int) -> list[int]:
    weights = list(accumulate(1 / (number + 1) for number in range(keys)))
    return random.choices(range(keys), cum_weights=weights, k=count)


def test_entry_is_found_until_its_ttl_and_grace_are_over() -> None:
    store = filled(MemoryStore(10, PLENTY, grace_s=30.0), "a", stored_s=1000.0, ttl_s=60.0)

    assert store.get(digest("a"), 1000.0) is not None
    assert store.get(digest("a"), 1089.9) is not None
    assert store.get(digest("a"), 1090.0) is None
    assert (len(store), store.evictions["ttl"]) == (0, 1)


def test_change_of_grace_counts_for_what_is_kept() -> None:
    store = filled(MemoryStore(10, PLENTY), "a", stored_s=1000.0, ttl_s=60.0)

    store.grace_s = 100.0

    assert store.get(digest("a"), 1150.0) is not None


def test_clock_that_is_set_back_makes_nothing_immortal() -> None:
    store = filled(MemoryStore(10, PLENTY), "a", stored_s=1000.0)

    assert store.get(digest("a"), 1000.0 - CLOCK_STEP_S) is not None
    assert store.get(digest("a"), 999.0 - CLOCK_STEP_S) is None


@pytest.mark.parametrize("fields", [{"ttl_s": 0.0}, {"stored_s": 900.0}, {"body": bytes(50_000)}], ids=str)
def test_what_is_too_old_or_too_large_is_refused_and_changes_nothing(fields: dict[str, object]) -> None:
    store = filled(MemoryStore(10, 40_000), "a", "b")

    assert not store.put(make_entry("a", **fields), 1000.0)
    assert store.get(digest("a"), 1000.0) == make_entry("a")
    assert len(store) == 2


def test_store_of_no_size_keeps_nothing() -> None:
    assert not MemoryStore(0, PLENTY).put(make_entry(), 1000.0)


def test_newer_answer_takes_the_place_of_the_older() -> None:
    store = filled(MemoryStore(10, PLENTY), "a", "b")
    store.get(digest("a"), 1000.0)

    filled(store, "a", body=b"newer")

    newest, hits = store.newest(1)[0]
    assert (newest.body, hits, len(store)) == (b"newer", 1, 2)
    assert sum(store.evictions.values()) == 0


def test_newer_answer_keeps_what_the_older_was_worth() -> None:
    store = filled(MemoryStore(100, PLENTY), "a")
    store.get(digest("a"), 1000.0)

    filled(store, "a", body=b"newer")
    filled(store, *range(150))

    assert digest("a") in kept(store)


def test_newest_come_first() -> None:
    store = filled(MemoryStore(10, PLENTY), *"abc")

    assert [entry.key for entry, _ in store.newest(2)] == [digest("c"), digest("b")]


def test_peeking_is_no_use() -> None:
    store = filled(MemoryStore(10, PLENTY), "a")

    assert store.peek(digest("a"), 1000.0) == make_entry("a")
    assert store.peek(digest("a"), 1060.0) is None
    assert store.peek(digest("b"), 1000.0) is None
    assert store.newest(1)[0][1] == 0


def test_entries_that_were_asked_for_outlive_a_scan() -> None:
    store = filled(MemoryStore(100, PLENTY), *range(20))
    for number in range(20):
        store.get(digest(number), 1000.0)

    filled(store, *range(1000, 6000))

    assert {digest(number) for number in range(20)} <= kept(store)
    assert store.evictions["size"] == 5020 - 100


def test_entry_that_comes_back_soon_after_it_went_stays_longer() -> None:
    store = filled(MemoryStore(100, PLENTY), *range(150))
    assert digest(0) not in kept(store)

    filled(store, 0, *range(1000, 1110))

    assert digest(0) in kept(store)
    assert not {digest(number) for number in range(1, 150)} & kept(store)


def test_large_entries_go_for_each_other_rather_than_for_many_small_ones() -> None:
    store = filled(MemoryStore(10**6, 200_000), *range(80))
    for number in range(80):
        store.get(digest(number), 1000.0)

    filled(store, *range(1000, 1100), body=bytes(30_000))

    small = len(kept(store) & {digest(number) for number in range(80)})
    print(f"{small} of 80 small ones left, {store.evictions}")
    assert small > 70
    assert store.used_bytes <= 200_000
    assert store.evictions["size"] == 0


def test_removal_and_clearing_by_condition() -> None:
    store = filled(MemoryStore(100, PLENTY), *range(10), model="x")
    filled(store, *range(10, 15), model="y")

    assert store.clear(lambda entry: entry.key == digest(3)) == 1
    assert store.clear(lambda entry: entry.model == "x") == 9
    assert kept(store) == {digest(number) for number in range(10, 15)}
    assert store.clear() == 5
    assert (len(store), store.evictions["cleared"]) == (0, 15)


def test_sweep_looks_at_everybody_in_turn_and_drops_who_is_too_old() -> None:
    store = filled(MemoryStore(100, PLENTY), *range(0, 50, 2), ttl_s=60.0)
    filled(store, *range(1, 50, 2), ttl_s=600.0)

    dropped = sum(store.sweep(1100.0, 5) for _ in range(11))

    assert dropped == 25
    assert kept(store) == {digest(number) for number in range(1, 50, 2)}


QUEUES = 10
"""Looks that fall on the ends of the queues."""


def test_what_is_too_old_leaves_as_new_ones_come() -> None:
    store = filled(MemoryStore(1000, PLENTY), *range(200))

    for number in range(1000, 1000 + 200 + QUEUES):
        store.put(make_entry(number, stored_s=1100.0), 1100.0)

    assert len(store) == 200 + QUEUES
    assert store.evictions["ttl"] == 200


def test_lower_bounds_evict_at_once_and_give_memory_back() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    store = MemoryStore(4000, PLENTY)
    for number in range(4000):
        store.put(make_entry(number, body=bytes(1000)), 1000.0)
    full = tracemalloc.get_traced_memory()[0] - before

    store.resize(40, PLENTY)

    gc.disable()
    left = tracemalloc.get_traced_memory()[0] - before
    gc.enable()
    tracemalloc.stop()
    print(f"{full} bytes before, {left} after")
    assert len(store) == 40
    assert store.evictions["size"] == 3960
    assert left < full / 50


def test_lower_bound_in_bytes_evicts_at_once() -> None:
    store = filled(MemoryStore(1000, PLENTY), *range(1000))

    store.resize(1000, store.used_bytes // 2)

    assert store.used_bytes <= store.max_bytes
    assert 480 < len(store) <= 500
    assert store.evictions["bytes"] == 1000 - len(store)


def test_reported_memory_is_within_a_tenth_of_measured() -> None:
    count = 10_000
    gc.collect()
    tracemalloc.start()
    store = MemoryStore(count, PLENTY)
    for number in range(count):
        names = {"partition": f"cred:{number % 50:032}", "model": f"gpt-{number % 9}", "served_model": f"gpt-{number}"}
        head = b"Content-Type: application/json\r\nX-Request-Id: %032d\r\n" % number
        numbers = {"stored_s": 1000 + number / 1e9, "latency_s": number / 3, "cost_usd": number / 7}
        entry = make_entry(number, head=head, body=bytes(1024), output_tokens=1000 + number, **names, **numbers)
        store.put(entry, 1000.0)
    measured = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    print(f"reported {store.used_bytes}, measured {measured}: {store.used_bytes / measured:.3f}")
    assert 0.9 < store.used_bytes / measured < 1.1


def test_equal_names_are_kept_once() -> None:
    store = MemoryStore(10, PLENTY)
    for number in range(2):
        store.put(make_entry(number, partition="cred:" + "1" * 32, served_model="gpt" * 3, model=None), 1000.0)

    (first, _), (second, _) = store.newest(2)

    assert first.partition is second.partition
    assert first.served_model is second.served_model
    assert first.model is None


@pytest.mark.parametrize("size", [100, 300])
def test_more_is_found_than_with_the_least_recently_used_policy(size: int) -> None:
    keys = zipf(Random(1), 30_000, 5000)
    scanned = [10**6 + at if at % 1000 < 400 else key for at, key in enumerate(keys)]

    for trace, margin in ((keys, 0.04), (scanned, 0.03)):
        ours = hit_ratio(access_of(MemoryStore(size, PLENTY)), trace)
        lru = hit_ratio(lru_of(size), trace)
        print(f"size {size}: {ours:.3f}, LRU {lru:.3f}")
        assert ours > lru + margin


def test_hit_is_found_within_a_microsecond() -> None:
    store = filled(MemoryStore(1000, PLENTY), *range(1000))
    key = digest(500)

    best_s = min(timeit.repeat(lambda: store.get(key, 1000.0), number=10_000, repeat=5)) / 10_000

    print(f"{best_s * 1e6:.2f} µs")
    assert best_s < 1e-6


def test_first_to_go_is_named_only_when_room_is_short_and_then_goes() -> None:
    store = filled(MemoryStore(3, PLENTY), *"ab")
    assert store.first_to_go(1000) is None

    filled(store, "c")
    store.get(digest("a"), 1000.0)
    named = store.first_to_go(1000)
    filled(store, "d")

    assert named is not None
    assert named.key == digest("b")
    assert kept(store) == {digest("a"), digest("c"), digest("d")}


def test_first_to_go_counts_bytes() -> None:
    store = filled(MemoryStore(100, 10_000), "a")

    assert store.first_to_go(1000) is None
    assert store.first_to_go(9500) is not None
    assert MemoryStore(0, PLENTY).first_to_go(1) is None
