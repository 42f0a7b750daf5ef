"""Kept answers as operators see them: what they are of, never what is in them."""

import secrets
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

from plugins.cache.codec import Line
from plugins.cache.entry import Entry
from plugins.cache.freshness import age_s
from plugins.cache.question import PERSONAL
from proxy.errors import ClientError
from proxy.exchange import JsonObject
from proxy.values import parse_duration, timestamp

FILTERS: Final = ("model", "key", "caller", "olderThan")
MOST_CHARS: Final = 200

Listed: TypeAlias = Entry | Line


class Callers:
    """Names whose answers are whose: the same name for the same caller, as long as the process lives, and no digest."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(16)

    def name(self, partition: str) -> str:
        """Name a partition for people."""
        kind, _, rest = partition.partition(":")
        if kind != "credential":
            return partition
        return f"caller-{blake2b(rest.encode(), key=self._secret, digest_size=5).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are meant; None: whichever.

    Args:
        key: 32 hexadecimal digits, as entries are listed.
        caller: as `Callers` names it.
    """

    model: str | None = None
    key: str | None = None
    caller: str | None = None
    older_than_s: float | None = None

    def fits(self, one: Listed, callers: Callers, now_s: float) -> bool:
        """Tell whether an entry is meant."""
        return (
            (self.model is None or self.model in (one.model, one.served_model))
            and (self.key is None or self.key == key_of(one))
            and (self.caller is None or self.caller == callers.name(one.partition))
            and (self.older_than_s is None or age_s(one.stored_s, now_s) > self.older_than_s)
        )


def read_wanted(query: dict[str, str], also: tuple[str, ...] = ()) -> Wanted:
    """Read which entries a call means.

    Args:
        also: further parameters that are somebody else's.
    Raises:
        ClientError: a parameter is unknown or cannot be read.
    """
    for name in query:
        if name not in FILTERS + also:
            raise ClientError(f"?{name[:64]!a}: there are {', '.join(FILTERS + also)}")
    older_than_s = None
    if "olderThan" in query:
        try:
            older_than_s = parse_duration(query["olderThan"])
        except ValueError as error:
            raise ClientError(f"?olderThan: {error}") from None
    return Wanted(query.get("model"), query.get("key"), query.get("caller"), older_than_s)


def key_of(one: Listed) -> str:
    """Write the key of an entry."""
    return one.key if isinstance(one.key, str) else one.key.hex()


def row(one: Listed, callers: Callers, now_s: float, hits: int | None = None) -> JsonObject:
    """Show one entry.

    Returns:
        `{"key", "model", "servedModel", "operation", "shape", "caller", "storedAt", "ageS": float, "freshS": float,
        "tokens": {...}, "costUsd": float | None, "hits": int | None}`; `freshS` is below zero once it is stale.
    """
    age = age_s(one.stored_s, now_s)
    return {
        "key": key_of(one),
        "model": None if one.model is None else one.model[:MOST_CHARS],
        "servedModel": None if one.served_model is None else one.served_model[:MOST_CHARS],
        "operation": f"{one.format}.{one.operation}",
        "shape": one.shape.removeprefix(f"{PERSONAL} "),
        "caller": callers.name(one.partition),
        "storedAt": timestamp(one.stored_s),
        "ageS": round(age, 1),
        "freshS": round(one.ttl_s - age, 1),
        "tokens": {"input": one.input_tokens, "output": one.output_tokens},
        "costUsd": one.cost_usd,
        "hits": hits,
    }
