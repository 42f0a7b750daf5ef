"""Simulated traffic with a fixed seed, and what a cache saves of its price with `smartCache` and without."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random

from plugins.cache.entry import Entry
from plugins.cache.memory import MemoryStore
from plugins.cache.smart import SmartAdmission, SmartLimits, kind_of
from tests.plugins.cache.entries import make_entry

TTL_S = 3600.0
MANY = 10**6


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: answers of the same name are alike."""

    now_s: float
    entry: Entry


def _answer(name: str, caller: str, size_bytes: int, cost_usd: float, latency_s: float) -> Entry:
    return make_entry(name, partition=caller, body=bytes(size_bytes), cost_usd=cost_usd, latency_s=latency_s)


def _popular(random: Random, count: int, slope: float) -> Iterator[int]:
    weights = list(accumulate(1 / (number + 1) ** slope for number in range(count)))
    while True:
        yield random.choices(range(count), cum_weights=weights)[0]


def mixed(random: Random, count: int) -> Iterator[Asked]:
    """Four callers: small repeated answers, dear repeated ones, long streams hardly repeated, dear ones never."""
    classes, reports, now_s, chats = _popular(random, 2000, 0.9), _popular(random, 400, 0.7), 0.0, 0
    for number in range(count):
        now_s += random.expovariate(2.0)
        caller = random.choices(("classifier", "reports", "chat", "agents"), (35, 10, 45, 10))[0]
        if caller == "classifier":
            which = next(classes)
            answer = _answer(f"c{which}", caller, Random(which).randint(400, 900), 0.0004, 0.8)
        elif caller == "reports":
            which = next(reports)
            answer = _answer(f"r{which}", caller, Random(which).randint(6000, 14_000), 0.02 + which / 10_000, 9.0)
        elif caller == "chat":
            chats += random.random() > 0.03
            answer = _answer(f"s{chats}", caller, Random(chats).randint(15_000, 50_000), 0.002, 6.0)
        else:
            answer = _answer(f"a{number}", caller, Random(number).randint(3000, 9000), 0.03, 5.0)
        yield Asked(now_s, answer)


def alike(random: Random, count: int) -> Iterator[Asked]:
    """One caller whose answers differ in nothing but how often they are asked for."""
    popular, now_s = _popular(random, 5000, 0.9), 0.0
    for _ in range(count):
        now_s += random.expovariate(2.0)
        yield Asked(now_s, _answer(f"u{next(popular)}", "all", 2000, 0.001, 1.0))


def saved_by_all(traffic: list[Asked], room_bytes: int, ttl_s: float = TTL_S) -> float:
    """Dollars saved where every answer is kept."""
    store, saved_usd = MemoryStore(MANY, room_bytes), 0.0
    for asked in traffic:
        if store.get(asked.entry.key, asked.now_s) is not None:
            saved_usd += asked.entry.cost_usd or 0.0
        else:
            store.put(replace(asked.entry, stored_s=asked.now_s, ttl_s=ttl_s), asked.now_s)
    return saved_usd


def saved_by_smart(traffic: list[Asked], room_bytes: int, max_ttl_s: float = 86_400.0) -> float:
    """Dollars saved where it is decided what is kept."""
    store, saved_usd = MemoryStore(MANY, room_bytes), 0.0
    admission = SmartAdmission(SmartLimits(TTL_S, 60.0, max_ttl_s))
    for asked in traffic:
        entry, now_s = asked.entry, asked.now_s
        admission.see(entry.key, kind_of(entry), now_s)
        if store.get(entry.key, now_s) is not None:
            saved_usd += entry.cost_usd or 0.0
            continue
        decision = admission.decide(entry, store.first_to_go(entry.size_bytes), now_s, is_deterministic=True)
        if decision.is_kept:
            store.put(replace(entry, stored_s=now_s, ttl_s=decision.ttl_s), now_s)
    return saved_usd
