"""The one error a client gets when nobody could answer: every candidate with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.errors import FailureKind, NobodyAnswered, ProxyError
from proxy.journey.kept import KeptReply
from proxy.routing.failures import Verdict
from proxy.routing.health import Cause
from proxy.routing.plan import Plan, Target

TELLING: Final[tuple[FailureKind, ...]] = (
    *("context-length", "content-refused", "rate-limit", "server-error", "overloaded"),
    *("timeout", "auth", "reset", "tls", "connect", "not-found", "busy"),
)
"""Kinds of failures, the one that says most to a client first."""

OF_THE_REQUEST: Final[frozenset[FailureKind]] = frozenset({"context-length", "content-refused", "not-found"})
"""What a vendor says about the request itself goes to the client as it is."""

OF_KEYS: Final[frozenset[Cause]] = frozenset({"rate-limit", "auth"})

MOST_NAMED: Final = 20

LEAST_WAIT_S: Final = 1.0
"""Nobody is invited to come back at once."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One failed attempt, or one that never began because the provider's own limit was reached."""

    target: Target
    verdict: Verdict
    error: ProxyError


def last_word(plan: Plan, failures: Sequence[Failed], now_s: float) -> ProxyError:
    """Choose what the client is told.

    Returns:
        The only one's error as it is; the vendor's own reply (KeptReply) where it says most; else one error that
        lists everybody, with the status of the most telling failure.
    """
    telling = min(reversed(failures), key=lambda failed: _rank(failed.verdict.kind), default=None)
    if telling is not None and failures[-1].verdict.kind is None:
        return _with_attempts(failures[-1].error, plan)
    if telling is not None and len(plan.targets) == 1:
        return _with_attempts(_of_all_keys(telling, now_s), plan)
    if telling is not None and telling.verdict.kind in OF_THE_REQUEST and isinstance(telling.error, KeptReply):
        return telling.error
    retry_after_s = _soonest_s(plan, failures, now_s)
    message = _message(plan, failures, now_s)
    if telling is not None:
        error, provider = telling.error, telling.target.candidate.provider
        return NobodyAnswered(
            message, status=error.status, code=error.code, retry_after_s=retry_after_s, provider=provider
        )
    causes = {absence.cause for _, absence in plan.absent(now_s)}
    if "rate-limit" in causes:
        return NobodyAnswered(message, status=429, code="upstream_rejected", retry_after_s=retry_after_s)
    return NobodyAnswered(message, retry_after_s=retry_after_s)


def _rank(kind: FailureKind | None) -> int:
    return len(TELLING) if kind is None else TELLING.index(kind)


def _with_attempts(error: ProxyError, plan: Plan) -> ProxyError:
    if plan.attempts > 1 and not isinstance(error, KeptReply):
        error.message = f"{error.message}; after {plan.attempts} attempts"
    return error


def _message(plan: Plan, failures: Sequence[Failed], now_s: float) -> str:
    parts = [f"{failed.target.name}: {_bare(failed)}" for failed in failures]
    parts += [f"{target.name}: not asked{_why_not(target, now_s)}" for target in plan.targets if not target.is_asked]
    more = f" and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else ""
    why = f" ({plan.ended_by})" if plan.ended_by else ""
    return f"nobody could answer{why}: {'; '.join(parts[:MOST_NAMED])}{more}"


def _why_not(target: Target, now_s: float) -> str:
    absence = target.absence_now(now_s)
    if absence is None:
        return ""
    when = "" if absence.until_s is None else f", for {max(absence.until_s - now_s, 0):.1f} s more"
    return f", {absence.reason}{when}"


def _bare(failed: Failed) -> str:
    """Give the error's words without the provider's name, which stands before them already."""
    provider = failed.target.candidate.provider
    words = failed.error.message.removeprefix(f"{provider}: ").removeprefix(f"{provider} ")
    return f"{words} ({failed.error.code})"


def _of_all_keys(failed: Failed, now_s: float) -> ProxyError:
    """Give a provider's refusal; of several keys that are limited, with the time of the one that comes back first.

    A sole key's refusal stays as it is, unless other requests were told to wait for longer meanwhile.
    """
    error, keys = failed.error, failed.target.lane.keys
    if failed.verdict.kind != "rate-limit" or keys is None:
        return error
    wait_s = max(keys.soonest_s(now_s) or 0.0, LEAST_WAIT_S)
    told_since_s = keys.keys[0].hard_until_s - now_s - (error.retry_after_s or 0.0)
    if len(keys.keys) > 1 or told_since_s > LEAST_WAIT_S:
        if isinstance(error, KeptReply):
            error.come_back_after(wait_s)
        else:
            error.retry_after_s = wait_s
    return error


def _soonest_s(plan: Plan, failures: Sequence[Failed], now_s: float) -> float | None:
    """Find when the first of them may answer again, as far as that is known."""
    last = {failed.target: failed for failed in failures}
    waits = [wait_s for one in plan.targets if (wait_s := _wait_s(one, last.get(one), now_s)) is not None]
    return max(min(waits), LEAST_WAIT_S) if waits else None


def _wait_s(target: Target, failed: Failed | None, now_s: float) -> float | None:
    """Tell how long one needs until it may answer again, as far as that is known.

    Args:
        failed: its last failure, if it was asked: an earlier word of its own counts no more.
    """
    absence, keys = target.absence_now(now_s), target.lane.keys
    if absence is not None and absence.until_s is None:
        return None
    is_limited = failed is not None and failed.verdict.kind == "rate-limit"
    if keys is not None and (absence.cause in OF_KEYS if absence is not None else is_limited):
        return keys.soonest_s(now_s)
    left_s = None if absence is None or absence.until_s is None else absence.until_s - now_s
    if failed is None or (absence is not None and absence.cause in OF_KEYS):
        return left_s
    said_s = failed.error.retry_after_s if failed.verdict.retry_after_s is None else failed.verdict.retry_after_s
    return max((wait_s for wait_s in (left_s, said_s) if wait_s is not None), default=None)
