"""What a client's headers say about being answered from the cache, and about its answer being kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from proxy.values import parse_duration

MOST_SECONDS: Final = 2.0**31
"""RFC 9111, 1.2.2: a larger number counts as this."""

_DIRECTIVE: Final = re.compile(rb'([^\s,="]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?')
_DIGITS: Final = re.compile(rb"[0-9]+")


@dataclass(frozen=True, slots=True)
class Wishes:
    """How one request wants the cache to treat it; durations in seconds, None where nothing was said.

    Args:
        no_cache: it wants no kept answer, but its own may be kept.
        no_store: its answer must not be kept; it may get a kept one (RFC 9111, 5.2.1.5).
        only_if_cached: it wants no upstream to be asked: without a kept answer it gets 504.
        max_age_s: oldest answer it takes; a stale one only with `max_stale_s`.
        min_fresh_s: how long the answer must stay fresh.
        max_stale_s: for how long the answer may have been stale; infinite: for any.
        is_bypass: the cache shall have no part in it at all.
        ttl_s: how long its answer shall be fresh, instead of the setting.
        salt: part of the key, so that it shares answers with equal salts only.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: float | None = None
    min_fresh_s: float | None = None
    max_stale_s: float | None = None
    is_bypass: bool = False
    ttl_s: float | None = None
    salt: bytes = b""


NONE: Final = Wishes()


def read_wishes(fields: Mapping[bytes, bytes]) -> Wishes:
    """Read `Cache-Control` and our own `X-Cache`, `X-Cache-TTL` and `X-Cache-Salt`; whatever they say, nothing raises.

    What cannot be understood in `Cache-Control` counts as the strictest it could be, and so does the strictest of
    several; directives nobody knows are ignored, and so is what ours say that cannot be understood.

    Args:
        fields: header fields by name in lower case.
    Returns:
        NONE itself if none of them is there.
    Source:
        RFC 9111, 5.2.1.
    """
    control, ours = fields.get(b"cache-control"), fields.get(b"x-cache")
    ttl, salt = fields.get(b"x-cache-ttl"), fields.get(b"x-cache-salt")
    if control is None and ours is None and ttl is None and salt is None:
        return NONE
    given = _read_control(control or b"")
    return Wishes(
        no_cache=b"no-cache" in given,
        no_store=b"no-store" in given,
        only_if_cached=b"only-if-cached" in given,
        max_age_s=min(map(_limit_of, given[b"max-age"])) if b"max-age" in given else None,
        min_fresh_s=max(map(_demand_of, given[b"min-fresh"])) if b"min-fresh" in given else None,
        max_stale_s=min(map(_allowance_of, given[b"max-stale"])) if b"max-stale" in given else None,
        is_bypass=ours is not None and ours.strip().lower() == b"bypass",
        ttl_s=_read_ttl(ttl),
        salt=salt or b"",
    )


def _read_control(control: bytes) -> dict[bytes, list[bytes | None]]:
    """List the values of each directive; None for one that stands without."""
    given: dict[bytes, list[bytes | None]] = {}
    for name, quoted, plain in (match.groups() for match in _DIRECTIVE.finditer(control)):
        given.setdefault(name.lower(), []).append(plain if quoted is None else quoted)
    return given


def _seconds_of(value: bytes | None) -> float | None:
    """Read delta-seconds; None if it is something else."""
    return min(float(value), MOST_SECONDS) if value is not None and _DIGITS.fullmatch(value) else None


def _limit_of(value: bytes | None) -> float:
    seconds = _seconds_of(value)
    return 0.0 if seconds is None else seconds


def _demand_of(value: bytes | None) -> float:
    seconds = _seconds_of(value)
    return inf if seconds is None else seconds


def _allowance_of(value: bytes | None) -> float:
    return inf if value is None else _limit_of(value)


def _read_ttl(value: bytes | None) -> float | None:
    try:
        return None if value is None else parse_duration(value.decode("latin-1"))
    except ValueError:
        return None
