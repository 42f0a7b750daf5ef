"""How one provider does: circuits, keys, latency, and whether it may be asked now; pure, the time is passed in."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from proxy.config.models import ProviderSettings
from proxy.config.routing_models import BreakerSettings
from proxy.routing.adaptive import AimdLimit
from proxy.routing.breaker import Breaker, State
from proxy.routing.failures import Verdict
from proxy.routing.keys import TOLD_WHEN, Key, KeyPool
from proxy.routing.lane import Lane

MOST_LANES: Final = 256
"""Models of one provider that are told apart; beyond it some are forgotten: clients can make names up."""

SLOW_SHARE: Final = 0.95
TOO_LATE: Final = 2.0
"""How many times the usual wait, that of the slowest twentieth, a client must have waited for its leaving to tell."""

PROVIDER_PROBE: Final = 1
LANE_PROBE: Final = 2

Cause = Literal["drained", "rate-limit", "auth", "open", "slow"]


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a candidate is left out.

    Args:
        until_s: when that may end, on the monotonic clock; None if nobody knows.
        is_hard: it is not even asked when nobody else is left.
    """

    cause: Cause
    reason: str
    until_s: float | None = None
    is_hard: bool = False


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a reset has made undone.

    Args:
        circuits: that were open or half open: the provider's by its name, a model's as `provider/model`.
        cooldowns: of keys, and of models that were left out as too slow.
    """

    circuits: tuple[str, ...] = ()
    cooldowns: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A circuit that opened, closed or lets a probe through: for people."""

    what: str
    state: str
    reason: str


class LaneLoad:
    """What strategies may know of a candidate (`proxy.exchange.Load`)."""

    __slots__ = ("_health", "_model")

    def __init__(self, health: "ProviderHealth", model: str | None) -> None:
        self._health = health
        self._model = model

    @property
    def in_flight(self) -> int:
        """Calls of the provider at work."""
        return self._health.in_flight

    def latency_s(self, is_streaming: bool, now_s: float) -> float | None:
        """Tell how long this model of the provider takes lately."""
        lane = self._health.known(self._model)
        return None if lane is None else (lane.streams if is_streaming else lane.wholes).value_s(now_s)


class ProviderHealth:
    """One provider as routing sees it; outlives changes of its settings, as long as it is the same place.

    Args:
        settings: of its circuits.
        credentials: the keys held for it.
    """

    def __init__(self, name: str, settings: BreakerSettings, credentials: Sequence[str] = ()) -> None:
        self.name = name
        self.in_flight = 0
        self.drained_s: float | None = None
        """Since when an operator has it take no new calls."""
        self.awaits_probe = False
        """A probe of our own decides when its open circuits are tried again, rather than requests."""
        self.breaker = Breaker(settings)
        self.adaptive: AimdLimit | None = None
        self._settings = settings
        self._credentials = tuple(credentials)
        self._lanes: dict[str | None, Lane] = {}

    # -- settings ------------------------------------------------------------------------------------------------

    def resettle(
        self, provider: ProviderSettings, general: BreakerSettings, credentials: Sequence[str], now_s: float
    ) -> None:
        """Take over new settings; what was seen stays."""
        settings = self._settings = provider.breaker or general
        self._credentials = tuple(credentials)
        self.breaker.resettle(settings, now_s)
        for lane in self._lanes.values():
            lane.resettle(settings, credentials, now_s)
        if provider.adaptive_concurrency == "none":
            self.adaptive = None
        elif self.adaptive is None:
            self.adaptive = AimdLimit(provider.max_concurrency)
        else:
            self.adaptive.resettle(provider.max_concurrency)

    def reset(self, now_s: float) -> Forgotten:
        """Forget every failure and cooldown."""
        circuits = [self.name] if self.breaker.reset(now_s) is not None else []
        cooldowns = 0
        for lane in self._lanes.values():
            cooldowns += lane.cooldowns(now_s)
            if lane.reset(now_s) is not None:
                circuits.append(self._name_of(lane))
        return Forgotten(tuple(circuits), cooldowns)

    # -- lanes ---------------------------------------------------------------------------------------------------

    def lane(self, model: str | None) -> Lane:
        """Find what is known of a model."""
        lane = self._lanes.get(model)
        if lane is None:
            if len(self._lanes) >= MOST_LANES:
                self._make_room()
            lane = self._lanes[model] = self.unknown(model)
        return lane

    def _make_room(self) -> None:
        """Forget models of which nothing is known; else those of which nothing bad is; else the oldest."""
        lanes = self._lanes
        kept = {name: one for name, one in lanes.items() if not one.is_blank}
        if len(kept) >= MOST_LANES:
            kept = {name: one for name, one in lanes.items() if not one.is_forgettable}
        if len(kept) >= MOST_LANES:
            del kept[next(iter(kept))]
        self._lanes = kept

    def known(self, model: str | None) -> Lane | None:
        """Find what is known of a model, None if it was never asked for; keeps nothing, unlike `lane`."""
        return self._lanes.get(model)

    def unknown(self, model: str | None) -> Lane:
        """Make what would be known of a model that was never asked for; it is not kept."""
        return Lane(model, self._settings, self._credentials)

    @property
    def keys(self) -> KeyPool:
        """The keys it has, as if none was used yet; for each model there are some of their own."""
        return KeyPool(self._credentials)

    @property
    def has_open_circuit(self) -> bool:
        """Whether it, or one of its models, is left alone for failing."""
        return any(breaker.state != "closed" for breaker in self._breakers())

    def hasten(self, now_s: float) -> None:
        """Let requests try open circuits from now on, because a probe of our own was answered."""
        for breaker in self._breakers():
            breaker.hasten(now_s)

    def _breakers(self) -> Iterator[Breaker]:
        yield self.breaker
        yield from (lane.breaker for lane in self._lanes.values())

    def circuits(self) -> Iterator[tuple[str, State]]:
        """List all circuits by name, as in `Change`, with their states."""
        yield self.name, self.breaker.state
        yield from ((self._name_of(lane), lane.breaker.state) for lane in self._lanes.values())

    def lanes(self) -> Iterator[Lane]:
        """List the models that were asked for."""
        yield from self._lanes.values()

    # -- may it be asked? ----------------------------------------------------------------------------------------

    def is_calm(self, lane: Lane, now_s: float) -> bool:
        """Tell at a glance that a model may be asked without a second thought; False says nothing yet."""
        return self.is_calm_but_for_keys(lane, now_s) and (lane.keys is None or lane.keys.has_usable(now_s))

    def is_calm_but_for_keys(self, lane: Lane, now_s: float) -> bool:
        """Tell the same where a key is still to be found."""
        return (
            self.breaker.is_calm
            and lane.breaker.is_calm
            and self.drained_s is None
            and lane.slow_until_s <= now_s
            and lane.rests_until_s <= now_s
        )

    def absence(self, lane: Lane, now_s: float, tried: Collection[Key] = ()) -> Absence | None:
        """Tell why a model of this provider must not be asked now; None if it may.

        Args:
            tried: keys this request has used here already.
        """
        if self.drained_s is not None:
            return Absence("drained", "drained by an operator", None, is_hard=True)
        if not self._settings.enabled:
            return None
        keys, breaker = lane.keys, lane.breaker
        if keys is not None and not keys.has_usable(now_s, tried):
            return without_key(keys, now_s, tried)
        if lane.rests_until_s > now_s:
            return Absence("rate-limit", TOLD_WHEN, lane.rests_until_s, is_hard=True)
        if self.breaker.is_calm and breaker.is_calm and lane.slow_until_s <= now_s:
            return None
        for what, one in (("provider", self.breaker), (f"model {lane.model}", breaker)):
            if one.state != "closed" and (self.awaits_probe or not one.admits(now_s)):
                return Absence("open", f"the circuit of the {what} is open: {one.reason}", one.until_s)
        if lane.slow_until_s > now_s:
            return Absence("slow", lane.slow_reason, lane.slow_until_s)
        return None

    def key_for(self, lane: Lane, now_s: float, tried: Collection[Key] = ()) -> Key | None:
        """Choose the key to use now, the least bad one if need be; None without keys, or if none may be used.

        Args:
            tried: keys that must not be used.
        """
        if (keys := lane.keys) is None:
            return None
        key = keys.choose(now_s, tried) or keys.last_resort(now_s, tried)
        if key is None and not self._settings.enabled:
            key = min((one for one in keys.keys if one not in tried), key=lambda one: one.free_s, default=None)
        return key

    def share(self, lane: Lane, now_s: float) -> float:
        """Tell how much of its share it may have, from 0 to 1: less than all while it comes back."""
        if self.breaker.is_calm and lane.breaker.is_calm:
            return 1.0
        return min(self.breaker.share(now_s), lane.breaker.share(now_s))

    # -- attempts ------------------------------------------------------------------------------------------------

    def begin(self, lane: Lane, now_s: float) -> int:
        """Note that an attempt begins; what it returns goes to `succeed`, `fail` or `cancel`."""
        if self.breaker.is_calm and lane.breaker.is_calm:
            return 0
        probes = PROVIDER_PROBE if self.breaker.begin(now_s) else 0
        return probes | (LANE_PROBE if lane.breaker.begin(now_s) else 0)

    def probed(self, lane: Lane, probes: int) -> tuple[Change, ...]:
        """List the circuits that an attempt which began finds out about."""
        one = "half_open" if probes & PROVIDER_PROBE else None
        return self._changes(lane, one, "half_open" if probes & LANE_PROBE else None)

    def succeed(self, lane: Lane, began_s: float, probes: int, now_s: float) -> tuple[Change, ...]:
        """Note that an attempt gets an answer."""
        if not probes and self.breaker.is_calm and lane.breaker.is_calm:
            self.breaker.count(now_s)
            lane.breaker.count(now_s)
            return ()
        one = self.breaker.succeed(now_s, began_s, bool(probes & PROVIDER_PROBE))
        other = lane.breaker.succeed(now_s, began_s, bool(probes & LANE_PROBE))
        return self._changes(lane, one, other) if one or other else ()

    def fail(
        self, lane: Lane, began_s: float, probes: int, now_s: float, verdict: Verdict, cause: str
    ) -> tuple[Change, ...]:
        """Note that an attempt failed.

        Args:
            cause: in one or two words, for people: an error code.
        """
        is_provider, is_lane = bool(probes & PROVIDER_PROBE), bool(probes & LANE_PROBE)
        one = other = None
        if verdict.scope == "provider":
            one = self.breaker.fail(now_s, began_s, cause, is_provider)
            lane.breaker.cancel(now_s, began_s, is_lane)
        elif verdict.scope == "model":
            self.breaker.cancel(now_s, began_s, is_provider)
            other = lane.breaker.fail(now_s, began_s, cause, is_lane)
        else:
            one = self.breaker.succeed(now_s, began_s, is_provider)
            if verdict.kind is None:
                other = lane.breaker.succeed(now_s, began_s, is_lane)
            else:
                lane.breaker.cancel(now_s, began_s, is_lane)
        return self._changes(lane, one, other) if one or other else ()

    def is_silence(self, lane: Lane, waited_s: float, now_s: float) -> bool:
        """Tell whether a call that nobody waits for any more speaks against the provider: no answer for too long."""
        limit_s = self._settings.silence
        if limit_s is None or waited_s < limit_s:
            return False
        usual_s = lane.first_bytes.quantile(SLOW_SHARE, now_s)
        return usual_s is None or waited_s > usual_s * TOO_LATE

    def cancel(self, lane: Lane, began_s: float, probes: int, now_s: float) -> None:
        """Note that an attempt ended without telling anything of the provider."""
        if probes:
            self.breaker.cancel(now_s, began_s, bool(probes & PROVIDER_PROBE))
            lane.breaker.cancel(now_s, began_s, bool(probes & LANE_PROBE))

    def _changes(self, lane: Lane, one: str | None, other: str | None) -> tuple[Change, ...]:
        found = []
        if one is not None:
            found.append(Change(self.name, one, self.breaker.reason or ""))
        if other is not None:
            found.append(Change(self._name_of(lane), other, lane.breaker.reason or ""))
        return tuple(found)

    def _name_of(self, lane: Lane) -> str:
        return f"{self.name}/{lane.model}"


def without_key(keys: KeyPool, now_s: float, tried: Collection[Key] = ()) -> Absence:
    """Tell why none of the keys can be used, by the one that comes back first."""
    if not (left := [key for key in keys.keys if key not in tried]):
        return Absence("rate-limit", "every key was tried", None, is_hard=True)
    first = min(left, key=lambda key: key.free_s)
    cause: Cause = "auth" if first.refused_until_s >= first.free_s else "rate-limit"
    number = "the key is" if len(keys.keys) == 1 else f"all {len(keys.keys)} keys are"
    reason = f"{number} left alone: {keys.why(first, now_s)}"
    return Absence(cause, reason, first.free_s, is_hard=keys.last_resort(now_s, tried) is None)
