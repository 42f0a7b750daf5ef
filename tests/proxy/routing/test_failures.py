"""What each failure of a provider means: whose fault it is, and who may do better."""

import pytest

from proxy.errors import (
    FailureKind,
    ProviderBusy,
    ProxyError,
    StaleConnection,
    UpstreamAuth,
    UpstreamConnect,
    UpstreamConnectTimeout,
    UpstreamCut,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamTls,
)
from proxy.routing.failures import Scope, judge

TOO_LONG_AT_ANTHROPIC = "prompt is too long: 210000 tokens > 200000 maximum"
TOO_LONG_AT_GEMINI = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575)."
LIMIT_AT_ANTHROPIC = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"
TOO_LONG_AT_LLAMA = "the request exceeds the available context size. try increasing the context size"
TOO_LONG_AT_VLLM = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
TOO_LONG_AT_XAI = "This model's maximum prompt length is 131072 but the request contains 200000 tokens."
NO_CREDIT_AT_ANTHROPIC = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
BLOCKED_AT_ANTHROPIC = "Output blocked by content filtering policy"


def rejected(status: int | None, code: str = "", text: str = "", **more: bool | float | None) -> UpstreamRejected:
    return UpstreamRejected("no", status=status, vendor_code=code, vendor_text=text, **more)  # type: ignore[arg-type]  # of both kinds


def unread() -> UpstreamReset:
    error = UpstreamReset("closed before the request was sent")
    error.may_have_executed = False
    return error


@pytest.mark.parametrize(
    ("error", "kind", "scope"),
    [
        (UpstreamConnect("x"), "connect", "provider"),
        (UpstreamConnectTimeout("x"), "connect", "provider"),
        (UpstreamTls("x"), "tls", "provider"),
        (UpstreamTimeout("x"), "timeout", "model"),
        (UpstreamReset("x"), "reset", "model"),
        (StaleConnection("x"), "reset", "model"),
        (UpstreamProtocol("x"), "reset", "model"),
        (UpstreamCut("x"), "reset", "model"),
        (UpstreamAuth("x"), "auth", "key"),
        (ProviderBusy("x"), "busy", "request"),
        (rejected(429), "rate-limit", "key"),
        (rejected(503), "overloaded", "model"),
        (rejected(529), "overloaded", "model"),
        (rejected(500), "server-error", "model"),
        (rejected(502, text="upstream is unavailable"), "server-error", "model"),
        (rejected(504), "server-error", "model"),
        (rejected(404), "not-found", "request"),
        (rejected(410), "not-found", "request"),
        (rejected(413), "context-length", "request"),
        (rejected(400, "context_length_exceeded"), "context-length", "request"),
        (rejected(400, "invalid_request_error", TOO_LONG_AT_ANTHROPIC), "context-length", "request"),
        (rejected(400, "INVALID_ARGUMENT", TOO_LONG_AT_GEMINI), "context-length", "request"),
        (rejected(400, "content_filter", "The response was filtered"), "content-refused", "request"),
        (rejected(400, "content_policy_violation"), "content-refused", "request"),
        (rejected(400, "invalid_request_error", BLOCKED_AT_ANTHROPIC), "content-refused", "request"),
        (rejected(None, text="overloaded_error: Overloaded"), "overloaded", "model"),
        (rejected(None, text="rate_limit_error: slow down"), "rate-limit", "key"),
        (rejected(None, text="something broke"), "server-error", "model"),
        (rejected(None, text="Your input exceeds the context window of this model."), "context-length", "request"),
        (rejected(None, text="Output blocked by content filtering policy"), "content-refused", "request"),
        (rejected(None, text="The model is overloaded. Please try again later."), "overloaded", "model"),
        (rejected(None, text="Resource has been exhausted (e.g. check quota)."), "rate-limit", "key"),
        (rejected(402, "billing_error", "no credit"), "rate-limit", "key"),
        (rejected(402), "rate-limit", "key"),
        (rejected(400, "invalid_request_error", NO_CREDIT_AT_ANTHROPIC), "rate-limit", "key"),
        (rejected(400, "exceed_context_size_error", TOO_LONG_AT_LLAMA), "context-length", "request"),
        (rejected(400, "invalid_request_error", LIMIT_AT_ANTHROPIC), "context-length", "request"),
        (rejected(400, "BadRequestError", TOO_LONG_AT_VLLM), "context-length", "request"),
        (rejected(400, "", TOO_LONG_AT_XAI), "context-length", "request"),
        (rejected(408), "timeout", "model"),
    ],
    ids=lambda value: value.message if isinstance(value, ProxyError) else value,
)
def test_failure_has_a_kind_and_says_what_is_to_be_left_alone(
    error: ProxyError, kind: FailureKind, scope: Scope
) -> None:
    verdict = judge(error)

    assert (verdict.kind, verdict.scope) == (kind, scope)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 409, 415, 422, 451])
def test_clients_own_mistake_is_nobodys_failure(status: int) -> None:
    verdict = judge(rejected(status, "invalid_request_error", "temperature must be a number"))

    assert (verdict.kind, verdict.scope, verdict.may_repeat) == (None, "request", False)


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
        "Invalid 'messages[0].content': string too long. Expected a string with maximum length 10485760",
    ],
)
def test_other_limits_than_that_of_the_context_are_the_clients_own_mistake(text: str) -> None:
    assert judge(rejected(400, "invalid_request_error", text)).kind is None


def test_same_model_elsewhere_is_too_small_as_well_but_may_take_a_larger_body() -> None:
    assert judge(rejected(400, "context_length_exceeded")).is_for_every_provider
    assert judge(rejected(413, "", TOO_LONG_AT_ANTHROPIC)).is_for_every_provider
    assert not judge(rejected(413, "request_too_large", "Request exceeds the maximum size")).is_for_every_provider


@pytest.mark.parametrize(
    ("error", "may_have_executed"),
    [
        (UpstreamConnect("x"), False),
        (UpstreamTls("x"), False),
        (unread(), False),
        (StaleConnection("x"), False),
        (rejected(429), False),
        (rejected(503), False),
        (rejected(529), False),
        (rejected(408), False),
        (rejected(402), False),
        (rejected(400, "context_length_exceeded"), False),
        (UpstreamAuth("x"), False),
        (UpstreamTimeout("x"), True),
        (UpstreamReset("x"), True),
        (UpstreamProtocol("x"), True),
        (UpstreamCut("x"), True),
        (rejected(500), True),
        (rejected(504), True),
    ],
)
def test_only_what_cannot_have_reached_a_model_was_surely_not_executed(
    error: ProxyError, may_have_executed: bool
) -> None:
    assert judge(error).may_have_executed is may_have_executed


@pytest.mark.parametrize(
    ("error", "may_repeat"),
    [
        (rejected(503), True),
        (rejected(529), True),
        (rejected(429), True),
        (rejected(503, should_retry=False), False),
        (rejected(429, should_retry=False), False),
        (rejected(500), False),
        (rejected(500, should_retry=True), True),
        (rejected(409, should_retry=True), True),
        (rejected(408), True),
        (rejected(408, should_retry=False), False),
        (rejected(402), False),
        (unread(), True),
        (UpstreamReset("x"), False),
        (UpstreamConnect("x"), False),
        (UpstreamTimeout("x"), False),
    ],
)
def test_same_provider_is_asked_again_only_where_it_did_not_take_the_request_up_or_says_so(
    error: ProxyError, may_repeat: bool
) -> None:
    assert judge(error).may_repeat is may_repeat


def test_limits_and_refusals_are_about_the_key_so_that_another_may_do_better() -> None:
    assert judge(rejected(429)).wants_other_key
    assert judge(UpstreamAuth("x")).wants_other_key
    assert not judge(rejected(503)).wants_other_key


@pytest.mark.parametrize(
    "error",
    [
        rejected(429, "insufficient_quota"),
        rejected(402),
        rejected(403, "billing_error"),
        rejected(400, "invalid_request_error", NO_CREDIT_AT_ANTHROPIC),
    ],
    ids=lambda error: error.status,
)
def test_key_that_is_out_of_money_does_not_get_better_by_waiting(error: ProxyError) -> None:
    verdict = judge(error)

    assert (verdict.is_out_of_money, verdict.may_repeat, verdict.wants_other_key) == (True, False, True)


def test_providers_own_word_about_when_to_come_back_is_kept() -> None:
    assert judge(rejected(429, retry_after_s=7.5)).retry_after_s == 7.5
    assert judge(rejected(503, retry_after_s=2.0)).retry_after_s == 2.0
