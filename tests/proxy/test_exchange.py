"""The request and what is noted about it."""

import orjson
import pytest

from proxy.callers import Identity
from proxy.exchange import Exchange, Operation, Request, write_headers
from proxy.sink import ResponseHead
from proxy.usage import Price, Usage

CHAT = Operation("openai", "chat", "POST", "/v1/chat/completions", streams=True)


def make_request(document: dict[str, object] | None = None) -> Request:
    body = orjson.dumps(document) if document is not None else b""
    return Request(CHAT, method="POST", path=b"/v1/chat/completions", body=body, document=document)


def test_edit_sets_adds_and_removes_keys_in_document_and_body() -> None:
    request = make_request({"model": "a", "n": 1, "seed": 2})

    request.edit(model="b", seed=None, top_p=0.5)

    assert request.document == {"model": "b", "n": 1, "top_p": 0.5}
    assert orjson.loads(request.body) == request.document


def test_edit_leaves_nulls_that_the_client_sent() -> None:
    request = make_request({"model": "a", "stop": None})

    request.edit(model="b")

    assert request.document == {"model": "b", "stop": None}


def test_edit_does_not_touch_the_document_that_others_hold() -> None:
    document: dict[str, object] = {"model": "a"}
    request = make_request(document)

    request.edit(model="b")

    assert document == {"model": "a"}


def test_edit_makes_a_body_where_there_was_none() -> None:
    request = make_request()

    request.edit(model="a")

    assert request.body == b'{"model":"a"}'


@pytest.mark.parametrize(
    "holder",
    [
        Request(CHAT, method="POST", path=b"/", headers=[(b"X-One", b"1"), (b"x-ONE", b"2")]),
        ResponseHead(200, [b"X-One:  1 ", b"x-ONE:2"]),
    ],
    ids=["request", "response"],
)
def test_header_is_found_in_any_case_the_first_of_its_name(holder: Request | ResponseHead) -> None:
    assert holder.header(b"x-one") == b"1"
    assert holder.header(b"x-two") is None


@pytest.mark.parametrize(
    "header",
    [
        (b"X-Model", b"a\r\nSet-Cookie: b"),
        (b"X-Model", b"a\nb"),
        (b"X-Model", b"a\rb"),
        (b"X-Model", b"a\0b"),
        (b"X-Model\r\nX-Other", b"a"),
        (b"X-Model", b"a\r\n\r\n<html>"),
    ],
)
def test_header_that_breaks_out_of_its_line_is_not_written(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="line end or NUL"):
        write_headers([(b"Content-Type", b"application/json"), header])


@pytest.mark.parametrize(
    ("usage", "total"),
    [(Usage(), None), (Usage(1), None), (Usage(None, 2), None), (Usage(1, 2), 3), (Usage(0, 0), 0)],
)
def test_total_is_known_only_with_both_parts(usage: Usage, total: int | None) -> None:
    assert usage.total_tokens == total


def test_exchange_is_its_own_trace_unless_the_client_names_one() -> None:
    request = make_request()

    own, named = Exchange(request, id="r", received_s=0.0), Exchange(request, id="r", received_s=0.0, trace_id="t")

    assert (own.trace_id, named.trace_id) == ("r", "t")


def test_exchanges_share_no_notes_and_no_attempts() -> None:
    one, other = (Exchange(make_request(), id="r", received_s=0.0) for _ in range(2))

    one.notes["cache"] = 1

    assert other.notes == {}
    assert one.attempts is not other.attempts


def make_exchange(caller: str | None = None) -> Exchange:
    return Exchange(make_request(), id="r-1", received_s=0.0, peer="192.0.2.1", caller=caller)


def test_caller_counts_by_the_whole_credential_and_is_shown_masked() -> None:
    first, second = make_exchange("sk-0123456789-a"), make_exchange("sk-0123456789-b")

    assert first.caller_id != second.caller_id
    assert first.caller_id == make_exchange("sk-0123456789-a").caller_id
    assert "0123456789" not in first.caller_id + first.shown_caller


def test_caller_without_a_credential_counts_by_its_address() -> None:
    exchange = make_exchange()

    assert (exchange.caller_id, exchange.shown_caller) == ("peer:192.0.2.1", "192.0.2.1")


def test_recognised_caller_counts_by_its_identity_whatever_key_it_shows() -> None:
    exchange = make_exchange("sk-rotated-lately")
    exchange.identity = Identity("k1", "team a")

    assert (exchange.caller_id, exchange.shown_caller) == ("key:k1", "team a")


def test_told_header_cannot_break_out_of_its_line() -> None:
    exchange = make_exchange()
    exchange.tell(b"X-Cache", b"miss")

    with pytest.raises(ValueError, match="line end"):
        exchange.tell(b"X-Cache-Reason", b"a\r\nSet-Cookie: b")
    assert exchange.told == b"X-Cache: miss\r\n"


def test_price_counts_the_tokens_that_are_known() -> None:
    price = Price(input_usd=2.0, output_usd=10.0)

    assert price.cost_usd(Usage(input_tokens=1000, output_tokens=100)) == pytest.approx(0.003)
    assert price.cost_usd(Usage(input_tokens=1000)) == pytest.approx(0.002)
