"""Tokens and cost: reserved by a guess, settled by what was spent, and given back where nothing was."""

from typing import Any

import pytest

from proxy.errors import UpstreamConnect, UpstreamCut
from proxy.exchange import Attempt, Candidate, Exchange, Operation
from proxy.usage import Price, Usage
from tests.plugins.rate_limit.rig import BEGIN_S, LimitRig, answered, asking, request, told

LISTING = Operation("openai", "models", "GET", "/v1/models", reads_body=False)
PRICE = Price(2.5, 10.0)


def rig_of(counts: str, amount: float, **fields: Any) -> LimitRig:
    rule = {"name": "r", "counts": counts, "amount": amount, "algorithm": "fixed-window", **fields}
    return LimitRig([Candidate("openai", "gpt-4o", price=PRICE)], rules=[rule])


def left(rig: LimitRig) -> int:
    exchange = request(operation=LISTING)
    rig.passes(exchange)
    rig.plugin.post_response(exchange)
    return int(told(exchange)["ratelimit"].partition("r=")[2].partition(";")[0])


def asked(rig: LimitRig, text: str = "x" * 400, most: int | None = 500) -> Exchange:
    exchange = asking(text, most)
    assert rig.passes(exchange)
    return exchange


@pytest.mark.parametrize(
    ("counts", "spent"), [("inputTokens", 120), ("outputTokens", 30), ("totalTokens", 150), ("costUsd", 600)]
)
def test_true_usage_settles_what_was_reserved(counts: str, spent: int) -> None:
    rig = rig_of(counts, 1.0 if counts == "costUsd" else 10_000)
    exchange = asked(rig)

    rig.plugin.post_response(answered(exchange, Usage(120, 30), price=PRICE))

    assert left(rig) == (1_000_000 if counts == "costUsd" else 10_000) - spent


def test_reserve_holds_room_while_the_request_runs() -> None:
    rig = rig_of("outputTokens", 1000)

    first = asked(rig)
    asked(rig)

    assert not rig.passes(asking("x", 500))
    rig.plugin.post_response(answered(first, Usage(10, 20)))
    assert rig.passes(asking("x", 480))


def test_more_than_was_reserved_counts_against_the_next() -> None:
    rig = rig_of("outputTokens", 1000)

    rig.plugin.post_response(answered(asked(rig, most=10), Usage(10, 1500)))

    assert rig.refused(asking("x", 1)).retry_after_s == 60


@pytest.mark.parametrize(
    "fields",
    [
        {"is_cached": True, "status": 200, "usage": Usage(120, 30)},
        {"status": 429},
        {"status": 400},
        {"status": 503, "error": UpstreamConnect("refused")},
        {"status": 499},
    ],
    ids=["cached", "limited by another", "malformed", "no connection", "left before it was sent"],
)
def test_everything_is_given_back_where_no_provider_did_anything(fields: dict[str, Any]) -> None:
    rig = rig_of("totalTokens", 10_000)
    exchange = asked(rig)
    for name, value in fields.items():
        setattr(exchange, name, value)

    rig.plugin.post_response(exchange)

    assert left(rig) == 10_000


def test_what_a_provider_refused_is_given_back() -> None:
    rig = rig_of("totalTokens", 10_000)
    exchange = answered(asked(rig), None)
    exchange.attempts[0].status = exchange.status = 400

    rig.plugin.post_response(exchange)

    assert left(rig) == 10_000


def test_cut_stream_is_settled_by_its_size() -> None:
    rig = rig_of("outputTokens", 10_000)
    exchange = asked(rig)
    exchange.request.is_streaming = True
    exchange.error = UpstreamCut("cut")

    rig.plugin.post_response(answered(exchange, Usage(100, 1), bytes_out=15_000))

    assert left(rig) == 10_000 - 100  # 150 bytes for a token


def test_client_that_left_pays_for_what_it_got() -> None:
    rig = rig_of("totalTokens", 10_000)
    exchange = answered(asked(rig), None, bytes_out=1500)
    exchange.request.is_streaming = True
    exchange.status = 499

    rig.plugin.post_response(exchange)

    assert 10_000 - 10 - 150 < left(rig) < 10_000 - 10 - 90


def test_guess_gets_better_with_every_answer() -> None:
    """The model's tokens are half as long as guessed, and its answers longer."""
    rig = rig_of("totalTokens", 10**9)

    for _ in range(60):
        rig.plugin.post_response(answered(asked(rig, "x" * 4000, None), Usage(2000, 900)))

    before = left(rig)
    asked(rig, "x" * 4000, None)
    assert before - left(rig) == pytest.approx(2900, rel=0.02)


def test_listing_models_takes_no_tokens() -> None:
    rig = rig_of("totalTokens", 1)
    exchange = request(model=None, document=None, operation=LISTING)

    assert rig.passes(exchange)
    rig.plugin.post_response(answered(exchange, None, bytes_out=9000))
    assert left(rig) == 1


def test_without_a_price_no_cost_is_counted() -> None:
    rig = rig_of("costUsd", 0.001)
    rig.targets = lambda exchange: [Candidate("openai", "gpt-4o")]

    assert all(rig.passes(asking("x" * 4000, 4000)) for _ in range(5))


def test_requests_at_once_are_counted_until_each_has_ended() -> None:
    rig = LimitRig(rules=[{"name": "par", "counts": "concurrent", "amount": 2}])
    first, second = request(), request()
    assert rig.passes(first)
    assert rig.passes(second)
    assert rig.refused().retry_after_s == 1

    rig.plugin.post_response(first)
    rig.plugin.post_response(first)

    assert rig.passes()
    assert not rig.passes()


def test_requests_at_once_survive_a_change_of_the_settings() -> None:
    rig = LimitRig(rules=[{"name": "par", "counts": "concurrent", "amount": 2}])
    first = request()
    rig.passes(first)

    rig.change(rules=[{"name": "par", "counts": "concurrent", "amount": 1}])

    assert not rig.passes()
    rig.plugin.post_response(first)
    assert rig.passes()


def test_requests_at_once_survive_a_change_of_a_period_that_means_nothing_there() -> None:
    rig = LimitRig(rules=[{"name": "par", "counts": "concurrent", "amount": 2}])
    first = request()
    assert rig.passes(first)

    rig.change(rules=[{"name": "par", "counts": "concurrent", "amount": 2, "period": "1h"}])

    assert rig.admitted(5) == 1
    rig.plugin.post_response(first)
    assert rig.admitted(5) == 1


def test_what_is_settled_of_a_rule_that_is_gone_takes_no_room() -> None:
    rig = rig_of("outputTokens", 1000)
    exchange = asked(rig, most=10)
    rig.change()
    rig.plugin._tables.keep(rig.plugin.sets.identities)

    rig.plugin.post_response(answered(exchange, Usage(10, 800)))

    assert rig.plugin._room.used == 0


def test_provider_that_counts_beyond_all_measure_shuts_nobody_out_for_ages() -> None:
    rig = rig_of("outputTokens", 10**9, algorithm="token-bucket")

    rig.plugin.post_response(answered(asked(rig, most=10), Usage(10, 2**63)))

    assert rig.refused(asking("x", 10)).retry_after_s < 3600


def test_answers_are_all_reckoned_with_however_many_are_wanted() -> None:
    rig = rig_of("outputTokens", 10_000)

    assert not rig.passes(request(document={"n": 200}, body=b"{}", max_output_tokens=100))
    assert rig.passes(request(document={"n": True}, body=b"{}", max_output_tokens=100))


def test_names_of_models_that_clients_make_up_take_little_room() -> None:
    rig = rig_of("outputTokens", 10**9)
    name = "m" * 100_000
    rig.targets = lambda exchange: [Candidate("openai", exchange.request.model)]

    rig.passes(asking("x", model=name))

    assert max(map(len, rig.plugin._desk.estimator._habits)) < 100


def test_settling_after_a_change_of_algorithm_gives_nothing_away() -> None:
    rig = rig_of("outputTokens", 1000)
    exchange = asked(rig)

    rig.change(rules=[{"name": "r", "counts": "outputTokens", "amount": 1000, "algorithm": "sliding-log"}])
    rig.passes(asking("x", 100))
    rig.plugin.post_response(answered(exchange, Usage(10, 20)))

    assert left(rig) <= 400


def test_attempts_that_failed_before_another_provider_answered_do_not_matter() -> None:
    rig = rig_of("totalTokens", 10_000)
    exchange = asked(rig)
    failed = Attempt("azure", "gpt-4o", BEGIN_S)
    failed.error, failed.status = "upstream_rejected", 503
    answered(exchange, Usage(120, 30))
    exchange.attempts.insert(0, failed)

    rig.plugin.post_response(exchange)

    assert left(rig) == 10_000 - 150


def test_what_was_spent_beyond_the_reserve_counts_though_the_bucket_was_dropped_meanwhile() -> None:
    rig = rig_of("outputTokens", 1000)
    exchange = asked(rig, most=10)
    rig.plugin.sets.general.rules[0].table.clear()

    rig.plugin.post_response(answered(exchange, Usage(10, 800)))

    assert left(rig) == 1000 - 790
