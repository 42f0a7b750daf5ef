"""Whatever is done to the store: its bounds hold, its sums are right, its answers are the last put."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plugins.cache.entry import Entry
from plugins.cache.memory import CLOCK_STEP_S, MemoryStore
from plugins.cache.queues import PLACE_BYTES
from tests.plugins.cache.entries import digest, make_entry

NAMES = st.integers(0, 30)
SIZES = st.integers(0, 20)
ROOMS = st.integers(0, 40_000)


class StoreMachine(RuleBasedStateMachine):
    """Beside the store: a dict of what was put last, which never evicts."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 10_000.0
        self.store = MemoryStore(10, 20_000, grace_s=5.0)
        self.put_last: dict[bytes, Entry] = {}
        self.came = 0
        """How many came that replaced none."""

    def is_over(self, entry: Entry) -> bool:
        age_s = self.now_s - entry.stored_s
        return age_s >= entry.ttl_s + self.store.grace_s or age_s < -CLOCK_STEP_S

    @rule(name=NAMES, body_bytes=st.integers(0, 9000), ttl_s=st.integers(0, 100), ago_s=st.integers(-70, 50))
    def put(self, name: int, body_bytes: int, ttl_s: int, ago_s: int) -> None:
        entry = make_entry(name, body=bytes(body_bytes), ttl_s=float(ttl_s), stored_s=self.now_s - ago_s)
        before = {each.key: each for each, _ in self.store.newest(100)}

        is_kept = self.store.put(entry, self.now_s)

        after = {each.key: each for each, _ in self.store.newest(100)}
        if is_kept:
            assert self.store.newest(1)[0][0] is entry
            assert not self.is_over(entry)
            self.put_last[entry.key] = entry
            self.count_comer(before.get(entry.key))
        else:
            assert after == before
            too_large = entry.size_bytes + PLACE_BYTES + 256 > self.store.max_bytes
            assert self.is_over(entry) or self.store.size == 0 or too_large

    def count_comer(self, older: Entry | None) -> None:
        came = len(self.store) + sum(self.store.evictions.values()) - self.came
        if older is None:
            assert came == 1
        elif not self.is_over(older):
            assert came == 0
        assert came in (0, 1), "an older one that is over may have been swept before it could be replaced"
        self.came += came

    @rule(name=NAMES)
    def get(self, name: int) -> None:
        key = digest(name)
        peeked = self.store.peek(key, self.now_s)

        found = self.store.get(key, self.now_s)

        assert found is peeked
        if found is not None:
            assert found is self.put_last[key]
            assert not self.is_over(found)

    @rule(name=NAMES)
    def remove(self, name: int) -> None:
        was_there = digest(name) in {entry.key for entry, _ in self.store.newest(100)}

        assert self.store.clear(lambda entry: entry.key == digest(name)) == was_there
        assert self.store.get(digest(name), self.now_s) is None

    @rule(parity=st.sampled_from([0, 1]))
    def clear(self, parity: int) -> None:
        fitting = [entry for entry, _ in self.store.newest(100) if entry.key[0] % 2 == parity]

        assert self.store.clear(lambda entry: entry.key[0] % 2 == parity) == len(fitting)
        assert not [entry for entry, _ in self.store.newest(100) if entry.key[0] % 2 == parity]

    @rule(size=SIZES, max_bytes=ROOMS)
    def resize(self, size: int, max_bytes: int) -> None:
        self.store.resize(size, max_bytes)

    @rule(grace_s=st.sampled_from([0.0, 5.0, 50.0]))
    def change_grace(self, grace_s: float) -> None:
        self.store.grace_s = grace_s

    @rule(step_s=st.integers(-80, 80))
    def let_time_pass(self, step_s: int) -> None:
        self.now_s += step_s

    @rule()
    def sweep_all(self) -> None:
        over = [entry for entry, _ in self.store.newest(100) if self.is_over(entry)]

        assert self.store.sweep(self.now_s, 2 * len(self.store) + 4) == len(over)
        assert not [entry for entry, _ in self.store.newest(100) if self.is_over(entry)]

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.store) <= self.store.size
        assert self.store.used_bytes <= max(self.store.max_bytes, 256), "256: the empty table of who went"

    @invariant()
    def sums_are_right(self) -> None:
        entries = [entry for entry, _ in self.store.newest(100)]
        assert len(entries) == len(self.store) == len({entry.key for entry in entries})
        assert self.store.used_bytes == 256 + sum(entry.size_bytes + PLACE_BYTES for entry in entries)

    @invariant()
    def nobody_goes_uncounted(self) -> None:
        assert self.came == len(self.store) + sum(self.store.evictions.values())

    @precondition(lambda self: len(self.store) > 0)
    @invariant()
    def queues_hold_everybody_once(self) -> None:
        linked = []
        for queue in (self.store._newcomers, self.store._main):
            at, count = queue.after, 0
            while at is not queue:
                linked.append(at.entry.key)
                at, count = at.after, count + 1
            assert count == queue.count
        assert sorted(linked) == sorted(entry.key for entry, _ in self.store.newest(100))


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=50)
