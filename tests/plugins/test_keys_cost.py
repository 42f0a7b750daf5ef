"""What requests are reckoned to cost before, and what they did cost after, also where the provider does not say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.keys.cost import cost, estimate, price_of
from proxy.errors import UpstreamCut, UpstreamTimeout
from proxy.exchange import Attempt, Exchange, Operation
from proxy.usage import Price, Usage
from tests.plugins.keys_rig import asked
from tests.plugins.rig import CHAT

CENTS = Price(10_000.0, 20_000.0)
"""A cent for a token of input, two for one of output."""
CENT = 10_000_000


def operation(name: str) -> Operation:
    return Operation("openai", name, "POST", "/x")


def ended(status: int | None = 200, *, usage: Usage | None = None, bytes_out: int = 0, **fields: Any) -> Exchange:
    """An exchange whose request has 40 bytes."""
    error = fields.pop("error", None)
    exchange = asked("k", body=b"x" * 40, **fields)
    exchange.status, exchange.usage, exchange.bytes_out, exchange.error = status, usage, bytes_out, error
    exchange.attempts.append(Attempt("fake", "gpt-4o", 0.0))
    return exchange


def test_usage_is_paid_at_its_price() -> None:
    assert cost(ended(usage=Usage(3, 5)), CENTS) == 13 * CENT


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1e4), st.floats(0, 1e4))
def test_price_is_never_below_what_dollars_say_nor_a_billionth_above(
    input_tokens: int, output_tokens: int, input_usd: float, output_usd: float
) -> None:
    price, usage = Price(input_usd, output_usd), Usage(input_tokens, output_tokens)

    nanos = price_of(usage, price)

    exact = price.cost_usd(usage) * 1e9
    assert exact * (1 - 1e-12) - 1e-5 <= nanos <= exact * (1 + 1e-12) + 1


@pytest.mark.parametrize(
    "exchange",
    [
        ended(400),
        ended(502, error=UpstreamTimeout("silent")),
        ended(operation=operation("count_tokens"), usage=Usage(1000, None)),
        ended(operation=operation("models"), bytes_out=1000),
        ended(operation=operation("raw"), bytes_out=10**6),
    ],
)
def test_errors_and_what_nobody_bills_cost_nothing(exchange: Exchange) -> None:
    assert cost(exchange, CENTS) == 0


def test_answers_nobody_was_asked_for_cost_nothing() -> None:
    by_plugin, cached = ended(usage=Usage(3, 5)), ended(usage=Usage(3, 5))
    by_plugin.attempts.clear()
    cached.is_cached = True

    assert (cost(by_plugin, CENTS), cost(cached, CENTS)) == (0, 0)
    assert cost(ended(usage=Usage(3, 5)), None) == 0


def test_stream_without_usage_is_reckoned_from_its_bytes() -> None:
    exchange = ended(bytes_out=640, is_streaming=True)

    assert cost(exchange, CENTS) == (10 + 2 * 10) * CENT


def test_tokens_of_a_native_stream_are_smaller() -> None:
    native = Operation("native", "chat", "POST", "/", streams=True)
    exchange = ended(499, bytes_out=640, is_streaming=True, operation=native)

    assert cost(exchange, CENTS) == (10 + 2 * 40) * CENT


def test_stream_that_breaks_off_counts_what_was_sent_though_it_said_less() -> None:
    said = Usage(7, 1)

    cut = ended(bytes_out=6400, is_streaming=True, usage=said, error=UpstreamCut("cut"))
    left = ended(499, bytes_out=6400, is_streaming=True, usage=said)
    more = ended(499, bytes_out=64, is_streaming=True, usage=Usage(7, 50))

    assert cost(cut, CENTS) == cost(left, CENTS) == (7 + 2 * 100) * CENT
    assert cost(more, CENTS) == (7 + 2 * 50) * CENT


def test_client_that_leaves_before_the_answer_pays_for_the_question() -> None:
    assert cost(ended(499), CENTS) == cost(ended(None), CENTS) == 10 * CENT


def test_no_more_is_reckoned_than_the_request_allows() -> None:
    one = ended(bytes_out=64_000, is_streaming=True, max_output_tokens=5)
    three = ended(bytes_out=64_000, is_streaming=True, max_output_tokens=5, document={"n": 3})

    assert cost(one, CENTS) == (10 + 2 * 5) * CENT
    assert cost(three, CENTS) == (10 + 2 * 15) * CENT


@pytest.mark.parametrize("usage", [Usage(8, None), None])
def test_embeddings_have_no_output(usage: Usage | None) -> None:
    exchange = ended(operation=operation("embeddings"), bytes_out=20_000, usage=usage)

    assert cost(exchange, CENTS) == (8 if usage else 10) * CENT
    assert estimate(exchange.request, [CENTS], 1000) == 10 * CENT


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 100),
        ({"max_output_tokens": 7}, 7),
        ({"max_output_tokens": 7, "document": {"n": 4}}, 28),
        ({"document": {"n": 2, "best_of": 3}}, 300),
        ({"document": {"generationConfig": {"candidateCount": 2}}}, 200),
        ({"document": {"n": "4", "generationConfig": 5}}, 100),
        ({"document": {"n": 0}}, 100),
        ({"document": {"n": -5}}, 100),
        ({"document": {"n": True}}, 100),
    ],
)
def test_estimate_reckons_with_every_answer_that_is_wanted(fields: dict[str, Any], tokens: int) -> None:
    request = asked("k", body=b"x" * 40, operation=CHAT, **fields).request

    assert estimate(request, [None, CENTS, Price(1, 1)], 100) == (10 + 2 * tokens) * CENT


@given(st.dictionaries(st.sampled_from(["n", "best_of", "generationConfig"]), st.integers() | st.text() | st.none()))
def test_no_document_makes_a_request_cheaper_than_one_answer(document: dict[str, Any]) -> None:
    request = asked("k", max_output_tokens=7, document=document).request

    assert estimate(request, [CENTS], 100) >= 2 * 7 * CENT


def test_without_any_price_nothing_is_held() -> None:
    assert estimate(asked("k").request, [None], 100) == estimate(asked("k").request, [], 100) == 0
