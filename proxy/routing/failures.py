"""What a failed attempt means: whose fault it is, whether somebody else may do better, whether it may be repeated."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from proxy.errors import (
    FailureKind,
    ProviderBusy,
    ProxyError,
    UpstreamAuth,
    UpstreamConnect,
    UpstreamConnectTimeout,
    UpstreamError,
    UpstreamRejected,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamTls,
)

Scope = Literal["provider", "model", "key", "request"]
"""What must be left alone for a while: the whole provider, one of its models, one of its keys; or nothing."""

OVERLOADED_STATUSES: Final = frozenset({503, 529})
"""The provider says that it did not take the request up (RFC 9110, 15.6.4; 529 is Anthropic's)."""

TOO_LONG: Final = re.compile(
    r"context_length_exceeded|context.{0,20}(?:length|window)|prompt is too long|token count.{0,40}exceed"
    r"|maximum.{0,30}tokens|too many (?:input )?tokens",
    re.IGNORECASE,
)
CONTENT: Final = re.compile(
    r"content_filter|content_policy|responsible.?ai|content (?:management|filtering) policy|flagged|safety system",
    re.IGNORECASE,
)
BUSY_EVENT: Final = re.compile(r"overloaded|unavailable|capacity", re.IGNORECASE)
LIMIT_EVENT: Final = re.compile(r"rate.?limit|resource_exhausted|quota", re.IGNORECASE)
OUT_OF_MONEY: Final = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached"})
"""Waiting does not help the key that gets these."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one failure means.

    Args:
        kind: None where it is the client's own mistake, which nobody else would make good.
        scope: what has failed.
        may_have_executed: the provider may have worked on it, and bill it.
        may_repeat: the same provider and key may be asked again after a wait.
        wants_other_key: another key of the same provider may do better at once.
        retry_after_s: the provider's own word.
    """

    kind: FailureKind | None
    scope: Scope = "request"
    may_have_executed: bool = False
    may_repeat: bool = False
    wants_other_key: bool = False
    is_out_of_money: bool = False
    retry_after_s: float | None = None


OWN_MISTAKE: Final = Verdict(None)


def judge(error: ProxyError) -> Verdict:
    """Tell what a failure means.

    Args:
        error: an UpstreamError, or ProviderBusy for this proxy's own limit on the provider.
    """
    if isinstance(error, ProviderBusy):
        return Verdict("busy")
    if isinstance(error, UpstreamRejected):
        return _rejected(error)
    if isinstance(error, UpstreamConnect | UpstreamConnectTimeout):
        return Verdict("connect", "provider")
    if isinstance(error, UpstreamTls):
        return Verdict("tls", "provider")
    if isinstance(error, UpstreamAuth):
        return Verdict("auth", "key", wants_other_key=True)
    if isinstance(error, UpstreamTimeout):
        return Verdict("timeout", "model", may_have_executed=True)
    executed = not isinstance(error, UpstreamError) or error.may_have_executed
    is_untouched = isinstance(error, UpstreamReset) and not executed
    return Verdict("reset", "model", may_have_executed=executed, may_repeat=is_untouched)


def _rejected(error: UpstreamRejected) -> Verdict:
    status, said, is_event = error.status, error.should_retry, error.vendor_status is None
    if status == 429 or (is_event and LIMIT_EVENT.search(error.vendor_text)):
        is_out = error.vendor_code in OUT_OF_MONEY
        return Verdict(
            "rate-limit",
            "key",
            may_repeat=said is not False and not is_out,
            wants_other_key=True,
            is_out_of_money=is_out,
            retry_after_s=error.retry_after_s,
        )
    if status in OVERLOADED_STATUSES or (is_event and BUSY_EVENT.search(error.vendor_text)):
        return Verdict("overloaded", "model", may_repeat=said is not False, retry_after_s=error.retry_after_s)
    if status >= 500:
        return Verdict(
            "server-error",
            "model",
            may_have_executed=True,
            may_repeat=said is True,
            retry_after_s=error.retry_after_s,
        )
    if status in (400, 413, 422):
        said_what = f"{error.vendor_code} {error.vendor_text}"
        if status == 413 or TOO_LONG.search(said_what):
            return Verdict("context-length")
        if CONTENT.search(said_what):
            return Verdict("content-refused")
    if status in (404, 410):
        return Verdict("not-found")
    if said is True:
        return Verdict("server-error", "request", may_repeat=True, retry_after_s=error.retry_after_s)
    return OWN_MISTAKE
