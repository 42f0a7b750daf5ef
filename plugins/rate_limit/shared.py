"""Counts in the server that several processes share: names the keys, asks the script, reads its answers."""

from collections.abc import Awaitable, Hashable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from plugins.rate_limit.limit import NEVER, SECOND_US, Limit
from plugins.rate_limit.rules import Rule
from plugins.rate_limit.script import CLOCK, PROGRAM
from proxy.store import SharedStore

LEASE_US: Final = 60 * SECOND_US
"""A request in work holds its place so long, and is renewed: a process that dies gives its places back."""

ANY_QUEUE: Final = -1

SCANNED: Final = 500
"""Keys that one call looks at when something is forgotten."""


class SharedCharge(NamedTuple):
    """What a request takes of one rule.

    Args:
        most_queue_us: how long it may queue in a leaky bucket; `ANY_QUEUE` for as long as the bucket is deep.
    """

    rule: Rule
    partition: Hashable
    amount: int
    most_queue_us: int = ANY_QUEUE


class Answer(NamedTuple):
    """What the server says of one rule; times in microseconds, by its clock.

    Args:
        wait_us: 0 if there is room.
        mark: to be given back when it is settled.
    """

    wait_us: int
    left: int
    reset_us: int
    mark: int
    queue_us: int
    now_us: int


class SharedHold(NamedTuple):
    """What was reserved of one rule, until the true amount is known."""

    charge: SharedCharge
    answer: Answer


class SharedCounts:
    """The counts of all processes. Every call raises StoreUnavailable when the server gives no answer.

    Args:
        clock: the lines of the script that tell the time.
    """

    def __init__(self, clock: str = CLOCK) -> None:
        self._text = clock + PROGRAM
        self._script: tuple[Any, Any] = (None, None)  # Any: the client and its script, of a library loaded when used

    async def take(
        self, store: SharedStore, charges: Sequence[SharedCharge], request_id: str
    ) -> tuple[bool, list[Answer]]:
        """Take from all rules, or from none; False if one that is enforced has no room."""
        return await self._ask(store, "take", charges, request_id)

    async def peek(self, store: SharedStore, charges: Sequence[SharedCharge]) -> list[Answer]:
        """Tell what a request would find."""
        return (await self._ask(store, "peek", charges, ""))[1]

    async def _ask(
        self, store: SharedStore, action: str, charges: Sequence[SharedCharge], request_id: str
    ) -> tuple[bool, list[Answer]]:
        keys = [key_of(store.prefix, charge.rule, charge.partition) for charge in charges]
        rows = [(charge.amount, int(not charge.rule.is_plain), charge.most_queue_us) for charge in charges]
        refused, answers = await self._run(store, action, request_id, keys, [each.rule for each in charges], rows)
        return not refused, [Answer(*_never(answer)) for answer in answers]

    async def settle(self, store: SharedStore, holds: Sequence[tuple[SharedHold, int]], request_id: str) -> None:
        """Correct what was reserved, each by its difference to what was spent."""
        keys = [key_of(store.prefix, hold.charge.rule, hold.charge.partition) for hold, _ in holds]
        rows = [(delta, hold.charge.amount, hold.answer.now_us, hold.answer.mark) for hold, delta in holds]
        await self._run(store, "settle", request_id, keys, [hold.charge.rule for hold, _ in holds], rows)

    async def renew(self, store: SharedStore, holds: Sequence[SharedHold], request_id: str) -> None:
        """Hold the places of a request in work for longer."""
        keys = [key_of(store.prefix, hold.charge.rule, hold.charge.partition) for hold in holds]
        await self._run(store, "renew", request_id, keys, [hold.charge.rule for hold in holds], [()] * len(holds))

    async def forget(self, store: SharedStore, rules: Sequence[Rule], caller_id: str | None) -> int:
        """Forget what was spent under rules, of one caller or of all; returns how many counts went."""
        count = 0
        for rule in rules:
            if (pattern := pattern_of(store.prefix, rule, caller_id)) is None:
                continue
            cursor = 0
            while True:
                cursor, gone = await store.call(partial(_drop, cursor=cursor, pattern=pattern))
                count += gone
                if not cursor:
                    break
        return count

    async def _run(
        self,
        store: SharedStore,
        action: str,
        request_id: str,
        keys: Sequence[str],
        rules: Sequence[Rule],
        rows: Sequence[tuple[int, ...]],
    ) -> tuple[int, list[list[int]]]:
        words = words_of(action, request_id, [rule.limit for rule in rules], [rule.is_enforced for rule in rules], rows)
        return await store.call(lambda redis: self._call(redis, keys, words))

    def _call(self, redis: Any, keys: Sequence[str], words: Sequence[Any]) -> Awaitable[Any]:  # Any: as in SharedStore
        client, script = self._script
        if client is not redis:
            script = redis.register_script(self._text)  # it asks by its digest, and sends it where it is not known
            self._script = (redis, script)
        answer: Awaitable[Any] = script(keys=keys, args=words)
        return answer


def words_of(
    action: str,
    request_id: str,
    limits: Sequence[Limit],
    are_enforced: Sequence[bool],
    rows: Sequence[tuple[int, ...]],
) -> list[str | int]:
    """Write what the script is asked; see there.

    Args:
        rows: what the action needs, for each key.
    """
    words: list[str | int] = [action, request_id, LEASE_US, 5 + len(rows[0])]
    for limit, is_enforced, row in zip(limits, are_enforced, rows, strict=True):
        words += (limit.algorithm, limit.amount, limit.period_us, limit.depth, int(is_enforced), *row)
    return words


def _never(answer: Sequence[int]) -> Sequence[int]:
    return answer if answer[0] >= 0 else [NEVER, *answer[1:]]


async def _drop(redis: Any, cursor: int, pattern: str) -> tuple[int, int]:  # Any: as in SharedStore
    following, keys = await redis.scan(cursor, match=pattern, count=SCANNED)
    return int(following), int(await redis.unlink(*keys)) if keys else 0


def key_of(prefix: str, rule: Rule, partition: Hashable) -> str:
    """Name the count of a partition: by digests, because clients choose what is in it.

    All names have one hash tag, so that one script may touch all rules of a request.
    """
    parts = partition if isinstance(partition, tuple) else (partition,)
    caller, others = "", []
    for dimension, part in zip(rule.spec.per, parts, strict=True):
        if dimension == "caller":
            caller = str(part)
        else:
            others.append(str(part))
    rest = "\0".join(others)
    return f"{prefix}:{{limits}}:{rule.name}:{rule.counts}:{_digest(caller)}:{_digest(rest)}"


def pattern_of(prefix: str, rule: Rule, caller_id: str | None) -> str | None:
    """Name all counts of a rule, or those of one caller; None where it has none of that kind."""
    if caller_id is not None and "caller" not in rule.spec.per:
        return None
    caller = "*" if caller_id is None else _digest(caller_id)
    return f"{prefix}:{{limits}}:{rule.name}:{rule.counts}:{caller}:*"


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
