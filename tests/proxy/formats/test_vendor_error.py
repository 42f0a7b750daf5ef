"""What vendors' error bodies say, in each of their shapes."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats.vendor_error import MOST_CODE_CHARS, MOST_TEXT_CHARS, NOTHING_SAID, VendorError, read_vendor_error


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}},
            VendorError("context_length_exceeded", "too long"),
        ),
        (
            {"error": {"message": "down", "type": "server_error", "param": None, "code": None}},
            VendorError("server_error", "down"),
        ),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": None},
            VendorError("overloaded_error", "Overloaded"),
        ),
        (
            {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}},
            VendorError("UNAVAILABLE", "The model is overloaded."),
        ),
        (
            [{"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}],
            VendorError("INVALID_ARGUMENT", "bad"),
        ),
        ({"error": "model is not there"}, VendorError("", "model is not there")),
        (
            {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
            VendorError("BadRequestError", "too long"),
        ),
        ({"detail": "Not found"}, VendorError("", "Not found")),
        ({"detail": [{"loc": ["body"]}]}, NOTHING_SAID),
        ([], NOTHING_SAID),
        ("text", NOTHING_SAID),
    ],
)
def test_code_and_words_are_found_where_each_vendor_puts_them(document: object, said: VendorError) -> None:
    assert read_vendor_error(orjson.dumps(document)) == said


@pytest.mark.parametrize("body", [b"", b"<html>502 Bad Gateway</html>", b'{"error": {"mess', b"\xff\xfe"])
def test_what_is_no_json_says_nothing(body: bytes) -> None:
    assert read_vendor_error(body) == NOTHING_SAID


@pytest.mark.parametrize(
    ("delay", "wait_s"),
    [("17s", 17.0), ("0.847s", 0.847), ("999999999s", 86400.0), ("-1s", None), ("1m", None), (17, None), ("s", None)],
)
def test_googles_time_to_come_back_stands_in_the_details(delay: object, wait_s: float | None) -> None:
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    document = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": details}}

    assert read_vendor_error(orjson.dumps(document)).retry_after_s == wait_s


def test_key_that_google_refuses_with_400_is_told_from_a_bad_request() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    refused = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": [info]}}
    bad = {"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT", "details": [{"reason": "OTHER"}]}}

    assert read_vendor_error(orjson.dumps(refused)).is_key_refused
    assert not read_vendor_error(orjson.dumps(bad)).is_key_refused


FIELDS = ["error", "code", "type", "status", "message", "detail", "details", "retryDelay", "reason"]
SCALARS = [None, True, 0, -1.5, "", "x" * 1000, [], {}, [None], [{}], [{"retryDelay": "1s"}], {"message": 7}]


@given(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(SCALARS)))
def test_no_shape_is_an_error_of_ours_and_nothing_grows(document: dict[str, object]) -> None:
    for nested in (document, [document], {"error": document}):
        said = read_vendor_error(orjson.dumps(nested))

        assert len(said.code) <= MOST_CODE_CHARS
        assert len(said.text) <= MOST_TEXT_CHARS
