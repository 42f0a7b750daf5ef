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

TOOK_TOO_LONG: Final = 408
"""The request did not reach it in time, so that it may be sent again (RFC 9110, 15.5.9)."""

TOO_LONG: Final = re.compile(
    r"context_length_exceeded|context.{0,20}(?:length|window|limit|size)|(?:prompt|input) is too long"
    r"|maximum (?:prompt|input|sequence) length|token count.{0,40}exceed|too many (?:input )?tokens",
    re.IGNORECASE,
)
"""Not what says that `max_tokens` is too large: that is a mistake."""
CONTENT: Final = re.compile(
    r"content_filter|content_policy|responsible.?ai|content (?:management|filtering) policy|flagged|safety system",
    re.IGNORECASE,
)
BUSY_EVENT: Final = re.compile(r"overloaded|unavailable|capacity", re.IGNORECASE)
LIMIT_EVENT: Final = re.compile(r"rate.?limit|resource_exhausted|quota", re.IGNORECASE)
OUT_OF_MONEY: Final = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached"})
"""Waiting does not help the key that gets these."""
PAYMENT_REQUIRED: Final = 402
NO_CREDIT: Final = re.compile(r"credit balance is too low", re.IGNORECASE)
"""Anthropic says so with 400."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one failure means.

    Args:
        kind: None where it is the client's own mistake, which nobody else would make good.
        scope: what has failed.
        may_have_executed: the provider may have worked on it, and bill it.
        may_repeat: the same provider and key may be asked again after a wait.
        wants_other_key: another key of the same provider may do better at once.
        is_out_of_money: the key's account is, so that it does not get better by itself.
        is_for_every_provider: whoever has the model under the same name would say the same.
        retry_after_s: the provider's own word.
    """

    kind: FailureKind | None
    scope: Scope = "request"
    may_have_executed: bool = False
    may_repeat: bool = False
    wants_other_key: bool = False
    is_out_of_money: bool = False
    is_for_every_provider: bool = False
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
    status, said, text = error.status, error.should_retry, error.vendor_text
    is_event = error.vendor_status is None
    is_out = error.vendor_code in OUT_OF_MONEY or status == PAYMENT_REQUIRED
    if is_out or status == 429 or (is_event and LIMIT_EVENT.search(text)) or (status == 400 and NO_CREDIT.search(text)):
        is_out = is_out or status == 400
        return Verdict(
            "rate-limit",
            "key",
            may_repeat=said is not False and not is_out,
            wants_other_key=True,
            is_out_of_money=is_out,
            retry_after_s=error.retry_after_s,
        )
    if is_event or status in (400, 413, 422):
        said_what = f"{error.vendor_code} {text}"
        if TOO_LONG.search(said_what):
            return Verdict("context-length", is_for_every_provider=True)
        if status == 413:
            return Verdict("context-length")
        if CONTENT.search(said_what):
            return Verdict("content-refused")
    if status in OVERLOADED_STATUSES or (is_event and BUSY_EVENT.search(text)):
        return Verdict("overloaded", "model", may_repeat=said is not False, retry_after_s=error.retry_after_s)
    if status == TOOK_TOO_LONG:
        return Verdict("timeout", "model", may_repeat=said is not False, retry_after_s=error.retry_after_s)
    if status >= 500:
        return Verdict(
            "server-error",
            "model",
            may_have_executed=True,
            may_repeat=said is True,
            retry_after_s=error.retry_after_s,
        )
    if status in (404, 410):
        return Verdict("not-found")
    if said is True:
        return Verdict("server-error", "request", may_repeat=True, retry_after_s=error.retry_after_s)
    return OWN_MISTAKE
