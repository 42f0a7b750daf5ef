"""Who is asked next, and whether anybody is: one request's way through its candidates; pure, the time is passed in."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from random import Random
from typing import Final

from proxy.errors import FailureKind
from proxy.exchange import Candidate
from proxy.routing.budget import RetryBudget, backoff_s
from proxy.routing.failures import Verdict
from proxy.routing.health import Absence, ProviderHealth
from proxy.routing.keys import Key
from proxy.routing.lane import Lane
from proxy.routing.outliers import LOOK_EVERY_S, judge_lanes
from proxy.routing.policy import Policy

NOTHING_SENT: Final[frozenset[FailureKind]] = frozenset({"connect", "tls", "busy"})
"""Failures after which even a body that is streamed can still go to somebody else."""


class Target:
    """One candidate of one request, with what became of it so far.

    What most requests never change is an attribute of the class, so that making one is cheap.
    """

    absence: Absence | None = None
    """Why it was left out when it was looked at last."""
    attempts = 0
    tried: tuple[Key, ...] = ()
    is_asked = False
    """It was, or had no room: its turn is over."""
    is_repeatable = False
    """The last failure allows to ask it again, from `ready_s` on."""
    ready_s = 0.0
    failures = 0
    repeats = 0
    """How often it was waited for to be asked again."""

    def __init__(self, candidate: Candidate, health: ProviderHealth) -> None:
        self.candidate = candidate
        self.health = health
        self.lane: Lane = health.lane(candidate.model)

    @property
    def name(self) -> str:
        """`provider/model`, for people."""
        model = self.candidate.model
        return self.candidate.provider if model is None else f"{self.candidate.provider}/{model}"

    def absence_now(self, now_s: float) -> Absence | None:
        """Tell why it is left out now; None if it is not."""
        return self.health.absence(self.lane, now_s)


class Step:
    """Whom to ask, with which key (None: the provider has no key of ours), after how long a wait."""

    __slots__ = ("key", "target", "wait_s")

    def __init__(self, target: Target, key: Key | None, wait_s: float = 0.0) -> None:
        self.target = target
        self.key = key
        self.wait_s = wait_s

    def begin(self) -> None:
        """Note that it is taken: somebody is asked."""
        target, key = self.target, self.key
        target.attempts += 1
        target.is_asked = True
        target.is_repeatable = False
        if key is not None:
            target.tried += (key,)


def quick_step(candidate: Candidate, health: ProviderHealth, now_s: float) -> Step | None:
    """Ask a sole candidate with which all is well, as is so of nearly every request; None: it takes a plan to tell."""
    target = Target(candidate, health)
    if not health.is_calm_but_for_keys(target.lane, now_s):
        return None
    keys = target.lane.keys
    key = None if keys is None else keys.choose(now_s)
    return None if key is None and keys is not None else Step(target, key)


class Plan:
    """One request's way through its candidates.

    Args:
        candidates: in the order in which they are to be asked.
        fallbacks: gives further candidates, a model at a time, once those are used up; consumed lazily.
        budget: of the whole process.
        received_s: when the request came.
        is_upload: its body can be read only once.
        begun: the sole candidate, where it was asked without a plan.
    """

    is_panic = False
    """Everybody is left out, and the best of them is asked all the same."""
    ended_by = ""
    """Why nobody else was asked, in words."""
    _too_long_for: frozenset[str | None] = frozenset()
    """Models that said so."""
    _executed_at: frozenset[str] = frozenset()
    """Providers that may have executed the request: none of their models is asked any more, unless that is harmless."""
    _failed: frozenset[str] = frozenset()
    """Providers that failed."""
    _paid_for = 0
    """The number of the attempt that was paid for last: one that finds no room is not paid for again."""
    _bound_to: Target | None = None
    """It may have executed the request, and nobody else may then."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        health: Mapping[str, ProviderHealth],
        policy: Policy,
        budget: RetryBudget,
        random: Random,
        received_s: float,
        *,
        fallbacks: Iterator[Sequence[Candidate]] | None = None,
        is_upload: bool = False,
        begun: Target | None = None,
    ) -> None:
        self.targets = [begun] if begun else [Target(candidate, health[candidate.provider]) for candidate in candidates]
        self._health = health
        self._policy = policy
        self.deadline_s = policy.deadline_s
        """No attempt begins later than this after the request came; may be lowered."""
        self._budget = budget
        self._random = random
        self._received_s = received_s
        self._fallbacks = fallbacks
        self._is_upload = is_upload

    @property
    def attempts(self) -> int:
        """How many were made."""
        return sum(target.attempts for target in self.targets)

    # -- choosing ------------------------------------------------------------------------------------------------

    def first(self, now_s: float) -> Step | None:
        """Choose whom to ask first; None if nobody may be asked now."""
        targets = self.targets
        if len(targets) > 1 and now_s >= targets[0].lane.judged_at_s + LOOK_EVERY_S:
            lanes, settings = [target.lane for target in targets], targets[0].lane.breaker.settings
            absent = [target.lane for target in targets if target.absence_now(now_s) is not None]
            judge_lanes(lanes, settings, now_s, absent=absent)
        return self._step(self._fresh(now_s) or self._least_bad(), now_s)

    def after(self, target: Target, verdict: Verdict, now_s: float) -> Step | None:
        """Choose whom to ask after a failure that was noted; None if the request ends with it."""
        if (reason := self._end(verdict, now_s)) is not None:
            self.ended_by = reason
            return None
        step = self._next(target, verdict, now_s)
        if step is None:
            self.ended_by = self._why_nobody(now_s)
        elif (made := self.attempts) and self._paid_for <= made:  # who only stood in line has cost no provider anything
            if not self._budget.withdraw():
                self.ended_by = "the retry budget of the process is used up"
                return None
            self._paid_for = made + 1
        return step

    def left_s(self, now_s: float) -> float:
        """Tell how much time is left in which an attempt may begin; none where it is not above zero."""
        return self._received_s + self.deadline_s - now_s

    def is_late(self, now_s: float) -> bool:
        """Tell, after a wait, whether no attempt may begin any more; the request ends with that then."""
        if (reason := self._late_by(now_s)) is None:
            return False
        self.ended_by = reason
        return True

    def may_go_on(self, target: Target, verdict: Verdict, now_s: float) -> bool:
        """Tell whether another attempt may follow such a failure, as far as that is told without choosing."""
        if self._end(verdict, now_s) is not None:
            return False
        keys = target.lane.keys
        if verdict.may_repeat or (
            verdict.wants_other_key and keys is not None and keys.has_usable(now_s, target.tried)
        ):
            return True
        if not self._policy.is_failover_on or (verdict.may_have_executed and not self._policy.after_execution):
            return False
        return self._fallbacks is not None or not all(one.is_asked for one in self.targets)

    def other(self, now_s: float) -> Step | None:
        """Choose another provider to be asked beside the one that is late, without a wait and only if it is well."""
        policy = self._policy
        if not (policy.is_failover_on and policy.after_execution) or self.attempts >= policy.attempts:
            return None
        if self.left_s(now_s) <= 0:
            return None
        asked = {target.candidate.provider for target in self.targets if target.is_asked}
        return self._step(self._fresh(now_s, may_fall_back=False, besides=asked), now_s)

    def beside(self, busy: Sequence[Target], now_s: float) -> Step | None:
        """Choose somebody else than those whose own limit is reached, and who was not asked yet; None: wait."""
        if "busy" not in self._policy.kinds or not self._policy.is_failover_on or self._bound_to is not None:
            return None
        before = [target.is_asked for target in busy]
        for target in busy:
            target.is_asked = True
        found = self._fresh(now_s, may_fall_back=False)
        for target, was_asked in zip(busy, before, strict=True):
            target.is_asked = was_asked
        return self._step(found, now_s)

    def renew(self, step: Step, now_s: float) -> Step | None:
        """Look at a step again that had to wait; None if it is not to be taken any more.

        Who has come to be left out meanwhile is asked only if nobody else can be. Another key takes the place of one
        that has come to rest.
        """
        target, key = step.target, step.key
        absence = target.absence_now(now_s)
        if absence is not None and (absence.is_hard or (target.absence is None and self._is_other_well(target, now_s))):
            target.absence = absence
            return None
        if key is None or key.free_s <= now_s:
            return step
        return self._step(target, now_s, () if key in target.tried else None)

    def put_off(self, step: Step, now_s: float) -> Step | None:
        """Wait on for a provider that has told others meanwhile when to come back; None if that is too long."""
        target, absence = step.target, step.target.absence
        if absence is None or absence.cause != "rate-limit" or absence.until_s is None:
            return None
        policy = self._policy
        target.ready_s = absence.until_s + backoff_s(target.repeats, policy.backoff_s, policy.max_wait_s, self._random)
        if self._is_too_long(target, now_s):
            return None
        target.absence = None
        return Step(target, step.key, max(target.ready_s - now_s, 0.0))

    def _is_other_well(self, target: Target, now_s: float) -> bool:
        """Tell whether somebody else may be asked in its place, were it too busy."""
        if "busy" not in self._policy.kinds or not self._policy.is_failover_on:
            return False
        others = (one for one in self.targets if one is not target and not one.is_asked)
        return self._fallbacks is not None or any(one.absence_now(now_s) is None for one in others)

    def absent(self, now_s: float) -> Iterator[tuple[Target, Absence]]:
        """List who was never asked because it is left out, and why."""
        for target in self.targets:
            if not target.is_asked and (absence := target.absence_now(now_s)) is not None:
                yield target, absence

    def note(self, target: Target, verdict: Verdict, now_s: float, *, is_idempotent: bool) -> None:
        """Note that somebody failed.

        Args:
            is_idempotent: asking the same provider twice does no harm.
        """
        policy = self._policy
        target.is_asked = True  # also where it was too busy to be: its turn is over
        target.failures += 1
        self._failed |= {target.candidate.provider}
        repeats = verdict.may_repeat or (is_idempotent and verdict.kind in ("timeout", "reset", "server-error"))
        target.is_repeatable = repeats
        if repeats:
            wait_s = backoff_s(target.repeats, policy.backoff_s, policy.max_wait_s, self._random)
            told_s = verdict.retry_after_s or 0.0  # the drawn wait on top, lest all who were told it come at once
            target.ready_s = now_s + max(told_s, min(told_s + wait_s, policy.max_wait_s))
        if verdict.may_have_executed and not repeats:
            self._executed_at |= {target.candidate.provider}
        if verdict.may_have_executed and not policy.after_execution:
            self._bound_to = target
        if verdict.is_for_every_provider:
            self._too_long_for |= {target.candidate.model}

    # -- inside --------------------------------------------------------------------------------------------------

    def _end(self, verdict: Verdict, now_s: float) -> str | None:
        """Say why nobody is asked any more, None if somebody may be."""
        policy = self._policy
        is_named = verdict.kind in policy.kinds or (verdict.kind == "not-found" and len(self._failed) > 1)
        if verdict.kind is None or not is_named:
            return "this failure is not taken elsewhere"
        if self._is_upload and verdict.kind not in NOTHING_SENT:
            return "its body was streamed and cannot be sent again"
        if self.attempts >= policy.attempts:
            return f"{policy.attempts} attempts are made (failover.attempts)"
        return self._late_by(now_s)

    def _late_by(self, now_s: float) -> str | None:
        if self.left_s(now_s) > 0:
            return None
        return f"{self.deadline_s:g} s are over (failover.deadline, or the client's own)"

    def _next(self, target: Target, verdict: Verdict, now_s: float) -> Step | None:
        if self._bound_to is not None:
            return self._repeat((self._bound_to,), now_s)
        keys = target.lane.keys
        may_use_other = verdict.wants_other_key and keys is not None and self._has_attempts_to_spare(now_s)
        if may_use_other and keys is not None and (key := keys.choose(now_s, target.tried)) is not None:
            return Step(target, key)
        if self._policy.is_failover_on and (step := self._step(self._fresh(now_s), now_s)) is not None:
            return step
        again = self._repeat(self.targets, now_s)
        is_last = self._policy.attempts - self.attempts == 1
        if self._policy.is_failover_on and (again is None or (is_last and again.target.repeats > 1)):
            return self._step(self._least_bad(), now_s) or again
        return again

    def _why_nobody(self, now_s: float) -> str:
        if self._bound_to is not None and not self._bound_to.is_repeatable:
            return "it may have been executed (failover.afterExecution)"
        waiting = [target for target in self.targets if target.is_repeatable and self._is_too_long(target, now_s)]
        if not waiting:
            return "nobody else is left"
        first = min(waiting, key=lambda one: one.ready_s)
        wait_s = first.ready_s - now_s
        bound = "maxWait" if wait_s > self._policy.max_wait_s else "deadline"
        wait = f"{first.name} is not to be asked before {wait_s:.3g} s have passed"
        return f"nobody else is left, and {wait} (failover.{bound})"

    def _is_too_long(self, target: Target, now_s: float) -> bool:
        """Tell whether the wait until it may be asked again is longer than the request may take."""
        at_s = max(target.ready_s, now_s)
        return at_s - now_s > self._policy.max_wait_s or at_s - self._received_s > self.deadline_s

    def _has_attempts_to_spare(self, now_s: float) -> bool:
        """Tell whether an attempt is left for every provider that was not asked, and one more besides."""
        if not self._policy.is_failover_on:
            return True
        fresh = sum(1 for one in self.targets if not one.is_asked and one.absence_now(now_s) is None)
        return self._policy.attempts - self.attempts > fresh

    def _fresh(self, now_s: float, *, may_fall_back: bool = True, besides: Collection[str] = ()) -> Target | None:
        """Find the first who was not asked and is well.

        One that comes back yields to others by its share. After a failure, so does one that failed last itself: the
        next attempt should be the last one needed.
        """
        found = self._first_well(self.targets, now_s, besides)
        while found is None and may_fall_back and (new := self._fall_back()):
            found = self._first_well(new, now_s)
        return found

    def _first_well(self, targets: Sequence[Target], now_s: float, besides: Collection[str] = ()) -> Target | None:
        yielding: Target | None = None
        for target in targets:
            if target.is_asked or target.candidate.model in self._too_long_for:
                continue
            if target.candidate.provider in besides or target.candidate.provider in self._executed_at:
                continue
            health, lane = target.health, target.lane
            if health.is_calm(lane, now_s):
                target.absence = None
                return target
            target.absence = absence = health.absence(lane, now_s)
            if absence is not None:
                continue
            if not self.attempts:
                share = health.share(lane, now_s)
                if share >= 1.0 or self._random.random() < share:
                    return target
            yielding = yielding or target
        return yielding

    def _fall_back(self) -> Sequence[Target]:
        """Go on to the next fallback model that adds somebody; empty if there is none."""
        while self._fallbacks is not None:
            more = next(self._fallbacks, None)
            if more is None:
                self._fallbacks = None
                break
            known = {(target.candidate.provider, target.candidate.model) for target in self.targets}
            new = [Target(one, self._health[one.provider]) for one in more if (one.provider, one.model) not in known]
            self.targets += new
            if new:
                return new
        return ()

    def _least_bad(self) -> Target | None:
        """Find who may be asked although it is left out, because nobody else is.

        Who is merely slow, if there is one: it answers. Else any of them: who is back is not known, and the first
        answer closes its circuit for all.
        """
        found = [
            target
            for target in self.targets
            if not target.is_asked
            and target.candidate.model not in self._too_long_for
            and target.candidate.provider not in self._executed_at
            and target.absence is not None
            and not target.absence.is_hard
        ]
        if not found:
            return None
        self.is_panic = self.is_panic or self.attempts == 0
        slow = [target for target in found if target.absence is not None and target.absence.cause == "slow"]
        return self._random.choice(slow or found)

    def _repeat(self, targets: Sequence[Target], now_s: float) -> Step | None:
        """Find who may be asked again soonest, within the longest wait and the deadline."""
        ready = [
            target for target in targets if target.is_repeatable and target.candidate.provider not in self._executed_at
        ]
        ready.sort(key=lambda one: one.ready_s)
        for target in ready:
            if self._is_too_long(target, now_s):
                break
            at_s = max(target.ready_s, now_s)
            absence = target.health.absence(target.lane, at_s)
            if absence is not None and (absence.is_hard or absence.cause == "open"):
                continue
            if (step := self._step(target, at_s, ())) is not None:
                step.wait_s = at_s - now_s
                target.repeats += 1
                return step
        return None

    def _step(self, target: Target | None, now_s: float, tried: Collection[Key] | None = None) -> Step | None:
        """Give the step with the key to use; None if no key may be used.

        Args:
            tried: keys that must not be used; None for those that were.
        """
        if target is None:
            return None
        key = target.health.key_for(target.lane, now_s, target.tried if tried is None else tried)
        return None if key is None and target.lane.keys is not None else Step(target, key)
