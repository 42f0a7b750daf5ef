"""What clients are told of their limits: in the headers of the IETF's draft, the older ones, and the vendors' own."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.callers import Allowance, Identity
from proxy.exchange import Exchange, Operation
from tests.plugins.rate_limit.rig import BEGIN_S, LimitRig, asking, request, told

ANTHROPIC = Operation("anthropic", "chat", "POST", "/v1/messages", streams=True)
GEMINI = Operation("gemini", "generate", "POST", "/v1beta/models/{model}:generateContent", streams=True)

TWO = {"perMinute": 5, "perHour": 9, "algorithm": "fixed-window"}
PLAIN_AND_NOT: list[dict[str, Any]] = [TWO, {**TWO, "rules": [{"name": "x", "amount": 10**6, "counts": "inputTokens"}]}]


def after(count: int, rig: LimitRig, **fields: Any) -> dict[str, str]:
    for _ in range(count):
        exchange = request(**fields)
        rig.passes(exchange)
    return told(exchange)


@pytest.mark.parametrize("section", PLAIN_AND_NOT, ids=["plain", "with tokens"])
def test_every_answer_tells_all_rules_and_the_tightest_by_the_older_names(section: dict[str, Any]) -> None:
    headers = after(3, LimitRig(**section), operation=GEMINI)

    assert headers["ratelimit-policy"].startswith('"perMinute";q=5;w=60, "perHour";q=9;w=3600')
    assert headers["ratelimit"].startswith('"perMinute";r=2;t=60, "perHour";r=6;t=2760')
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"], headers["x-ratelimit-reset"]) == (
        "5",
        "2",
        "60",
    )
    assert not [name for name in headers if name.startswith(("anthropic", "x-ratelimit-limit-"))]


@pytest.mark.parametrize("section", PLAIN_AND_NOT, ids=["plain", "with tokens"])
def test_openai_clients_get_their_own_names(section: dict[str, Any]) -> None:
    headers = after(3, LimitRig(**section))

    own = {name: headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")}
    assert own == {"limit": "5", "remaining": "2", "reset": "60s"}
    assert headers["x-ratelimit-limit"] == "5"


@pytest.mark.parametrize("section", PLAIN_AND_NOT, ids=["plain", "with tokens"])
def test_anthropic_clients_get_their_own_names(section: dict[str, Any]) -> None:
    headers = after(3, LimitRig(**section), operation=ANTHROPIC)

    own = {name: headers[f"anthropic-ratelimit-requests-{name}"] for name in ("limit", "remaining", "reset")}
    assert (own["limit"], own["remaining"]) == ("5", "2")
    assert datetime.fromisoformat(own["reset"]) == datetime.fromtimestamp(BEGIN_S + 60, UTC)


def test_tokens_are_told_by_the_vendors_names() -> None:
    section = {"rules": [{"name": "t", "counts": "totalTokens", "amount": 1000, "algorithm": "fixed-window"}]}
    openai, anthropic = asking("x" * 400, 100), asking("x" * 400, 100, operation=ANTHROPIC)

    LimitRig(**section).passes(openai)
    LimitRig(**section).passes(anthropic)

    assert int(told(openai)["x-ratelimit-limit-tokens"]) == 1000
    left = int(told(openai)["x-ratelimit-remaining-tokens"])
    assert 780 < left < 810
    assert told(openai)["x-ratelimit-reset-tokens"] == "60s"
    assert int(told(anthropic)["anthropic-ratelimit-tokens-remaining"]) == left
    assert told(openai)["ratelimit-policy"] == '"t";q=1000;qu="tokens";w=60'


def test_cost_is_told_in_millionths_of_a_dollar() -> None:
    exchange = request()

    LimitRig(rules=[{"name": "usd", "counts": "costUsd", "amount": 2.5, "period": "1d"}]).passes(exchange)

    assert told(exchange)["ratelimit-policy"] == '"usd";q=2500000;qu="micro-usd";w=86400'
    assert told(exchange)["ratelimit"] == '"usd";r=2500000;t=0'


@pytest.mark.parametrize("section", [{"perMinute": 2}, {"perMinute": 2, "rules": [{"name": "x", "amount": 99}]}])
def test_refused_request_is_told_the_same_once(section: dict[str, Any]) -> None:
    rig = LimitRig(**section, algorithm="fixed-window")
    rig.admitted(2)
    exchange = request()

    rig.refused(exchange)

    assert told(exchange)["x-ratelimit-remaining"] == "0"


@pytest.mark.parametrize(
    ("algorithm", "wait_s"),
    [
        ("token-bucket", 3.6),
        ("gcra", 3.6),
        ("fixed-window", 2760),
        ("sliding-window", 2760 + 3.6),
        ("sliding-log", 3600),
    ],
)
def test_refusal_says_exactly_when_to_come_back(algorithm: str, wait_s: float) -> None:
    rig = LimitRig(perHour=1000, burstSize=1000, algorithm=algorithm)
    rig.admitted(1000)

    refused = rig.refused()

    assert (refused.status, refused.code) == (429, "rate_limited")
    assert refused.retry_after_s == pytest.approx(wait_s, abs=1e-6)
    rig.now_s += refused.retry_after_s - 0.001
    assert not rig.passes()
    rig.now_s += 0.001
    assert rig.passes()


def test_refusal_names_rule_limit_and_time() -> None:
    rig = LimitRig(perHour=1000, burstSize=1)
    rig.admitted(1)

    assert rig.refused().message == (
        "rate limit perHour is reached: 1000 requests in 1h, 1 at once, for each caller; come back in 3.6 s"
    )


@pytest.mark.parametrize(
    ("allowance", "name"),
    [
        (Allowance("requests", 1, 1), "key.requestsPerSecond"),
        (Allowance("requests", 1, 60), "key.requestsPerMinute"),
        (Allowance("requests", 1, 3600), "key.requestsPerHour"),
        (Allowance("requests", 1, 86400), "key.requestsPerDay"),
        (Allowance("requests", 1, 90), "key.requests.90s"),
        (Allowance("concurrent", 1, 0), "key.concurrent"),
    ],
)
def test_limits_of_a_virtual_key_go_by_the_names_that_its_owner_wrote(allowance: Allowance, name: str) -> None:
    rig = LimitRig()
    key = Identity("id-1", "team-red", (allowance,))
    rig.passes(request(identity=key))

    assert rig.refused(request(identity=key)).message.startswith(f"rate limit {name} is reached: 1 requests in ")


def test_request_that_would_never_pass_is_told_so_and_not_when_to_come_back() -> None:
    rig = LimitRig(rules=[{"name": "tpm", "counts": "outputTokens", "amount": 100}])

    exchange = asking("x", 200)
    refused = rig.refused(exchange)

    assert refused.retry_after_s is None
    assert told(exchange)["x-should-retry"] == "false", "SDKs would try it again at once"
    assert refused.message == (
        "rate limit tpm: about 200 output tokens are asked for at once, and there are never more than 100"
    )


def test_refusals_are_told_to_operators_now_and_then_with_how_many_there_were() -> None:
    rig = LimitRig(perMinute=1, burstSize=1)
    for _ in range(5):
        rig.admitted(1)
    rig.now_s += 60
    rig.admitted(2)

    first, second = rig.told("rate_limited")
    assert re.search("rate.limit", first.message)
    assert first.fields["caller"] == "…0001"
    assert "3 more" in second.message
    assert "alice" not in first.message


def test_names_are_the_same_whether_a_rule_is_plain_or_not() -> None:
    """The hot path writes them by itself."""
    plain, mixed = LimitRig(**TWO), LimitRig(**PLAIN_AND_NOT[1])

    def without_tokens(exchange: Exchange) -> dict[str, str]:
        return {name: value.partition(', "x"')[0] for name, value in told(exchange).items() if "tokens" not in name}

    for _ in range(7):
        one, other = request(), request()
        assert plain.passes(one) == mixed.passes(other)
        assert without_tokens(one) == without_tokens(other)


@pytest.mark.parametrize("counts", ["requests", "outputTokens"])
def test_time_beyond_all_calendars_is_told_as_the_last_one(counts: str) -> None:
    rules = [{"name": "x", "counts": counts, "amount": 1, "burst": 10**6, "period": "366d"}]
    exchange = asking("x", 10**5, operation=ANTHROPIC)

    rig = LimitRig(rules=rules)
    for _ in range(9000 if counts == "requests" else 0):
        rig.passes(request())
    rig.passes(exchange)

    name = "requests" if counts == "requests" else "output-tokens"
    assert told(exchange)[f"anthropic-ratelimit-{name}-reset"] == "9999-12-31T23:59:59Z"
