"""No form of a known secret stays in a text, and what looks like a secret goes too, in linear time."""

import base64
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.redaction import MASK, MAX_SECRETS, Redactor, forms_of, is_secret_name

CANARY = "canary/4f9a+77e1=?"


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        quote(CANARY),
        quote(CANARY, safe=""),
        quote(CANARY, safe="").lower(),
        quote_plus(CANARY),
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
        base64.b64encode(f"user:{CANARY}".encode()).decode(),
        base64.b64encode(f"us:{CANARY} and more".encode()).decode(),
        base64.b64encode(f"use:{CANARY}".encode()).decode(),
    ],
)
def test_known_secret_is_found_in_every_form(form: str) -> None:
    cleaned = Redactor([CANARY]).text(f"before {form} after")

    assert form not in cleaned
    assert cleaned.startswith("before ")
    assert MASK in cleaned


@given(st.text(min_size=8, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_secret_is_never_left_in_a_text(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])

    cleaned = redactor.text(f"{before}{secret}{after}")

    assert secret not in cleaned
    assert secret not in redactor.text(f"{before}{quote(secret, errors='replace')}{after}")


@given(st.binary(min_size=12, max_size=40).map(lambda data: data.hex()), st.binary(max_size=9), st.binary(max_size=9))
def test_base64_of_a_secret_among_other_bytes_is_found(secret: str, before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + secret.encode() + after).decode()

    cleaned = Redactor([secret]).text(encoded)

    left = [len(piece) for piece in cleaned.split(MASK)]
    assert len(left) == 2
    # At each end one character of Base64 may carry a few bits of the secret beside those of its neighbour.
    assert sum(left) <= (len(before) + len(after)) * 4 / 3 + 6


@given(st.text('"\\\n\té🙂x', min_size=8, max_size=20))
def test_secret_in_json_is_found(secret: str) -> None:
    line = json.dumps({"a": secret}, ensure_ascii=False)

    assert secret not in json.loads(Redactor([secret]).text(line).replace(MASK, "*"))["a"]


def test_short_and_empty_values_are_not_looked_for() -> None:
    assert Redactor(["", "cache"]).text("the cache is full") == "the cache is full"
    assert forms_of("x") == set()


def test_secret_that_holds_another_is_taken_whole() -> None:
    assert Redactor(["abcdefgh", "abcdefghijkl"]).text("xx abcdefghijkl") == f"xx {MASK}"


def test_rotated_secret_stays_known() -> None:
    redactor = Redactor(["first-secret"])
    redactor.register("second-secret")

    assert redactor.text("first-secret second-secret") == f"{MASK} {MASK}"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("got sk-proj-abcdefghijklmnop.", "got ***."),
        ("got sk-ant-api03-abcdefghijklmnop", "got ***"),
        ("AIzaSyA1234567890abcdefghij", "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1 x", "*** x"),
        ("Authorization: Bearer abc def", "Authorization: ***"),
        ('{"authorization": "Basic x"}', '{"authorization": "***"}'),
        (r"{\"api_key\": \"abcdef\"}", r"{\"api_key\": \"***\"}"),
        ("sent Bearer abcdefghijklmnop now", "sent Bearer *** now"),
        ("x-api-key: abcdef, y", "x-api-key: ***, y"),
        ("X-Goog-Api-Key=abc", "X-Goog-Api-Key=***"),
        ("Cookie: a=b; c=d", "Cookie: ***"),
        ("password=x&user=y", "password=***&user=y"),
        ("PROXY_ADMIN_TOKEN=abc", "PROXY_ADMIN_TOKEN=***"),
        ("GET /v1beta/models?key=abc&alt=sse", "GET /v1beta/models?key=***&alt=sse"),
        ("http://user:pw@host/x", "http://***@host/x"),
    ],
)
def test_what_looks_like_a_secret_goes(text: str, cleaned: str) -> None:
    assert Redactor().text(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=100, input_tokens: 5",
        "the token bucket is empty",
        "task-scheduler-worker-one-two",
        "http://host/path?model=x@y",
        "monkey=banana",
        "conf/a.yaml:3: admin.token: is missing",
        "key: cache.ttl",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "name",
    ["authorization", "Proxy-Authorization", "X-Api-Key", "apiKey", "api_key", "APIKEY", "token", "session-token",
     "clientSecret", "password", "Set-Cookie", "aws_secret_access_key", "X-Auth"],
)  # fmt: skip
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["max_tokens", "maxTokens", "tokens", "key", "cache_key", "author", "tokenizer", ""])
def test_names_of_other_things_are_known(name: str) -> None:
    assert not is_secret_name(name)


def test_fields_are_cleaned_to_their_depth() -> None:
    redactor = Redactor(["hidden-value"])

    cleaned = redactor.value(
        {"apiKey": "x", "n": 5, "list": [b"hidden-value", {"password": ["y"]}], "hidden-value": None, "token": 7}
    )

    assert cleaned == {"apiKey": MASK, "n": 5, "list": [MASK, {"password": MASK}], MASK: None, "token": 7}


def test_fields_that_hold_themselves_end() -> None:
    endless: list[object] = []
    endless.append(endless)

    assert "…" in repr(Redactor().value(endless))


@pytest.mark.parametrize(
    "unit",
    ["a", " ", "sk-", "eyJ", "eyJaaaaaaaa.", "token", "token ", "token:", "token: '", "bearer ", "authorization",
     "://", "://a", "?key=", "cookie\\\"", "'\"\\", "A", "secret_key = ", "AIza", "%2F", "=", "eyJ-"],
)  # fmt: skip
def test_a_megabyte_takes_less_than_a_second(unit: str) -> None:
    redactor = Redactor(["a-secret-value-of-some-length", "aaaaaaaaaaaab"])
    text = (unit * (1 << 20))[: 1 << 20]

    start = time.perf_counter()
    redactor.text(text)
    duration_s = time.perf_counter() - start

    assert duration_s < 1


def test_secrets_beyond_the_limit_are_forgotten_the_longest_known_first() -> None:
    redactor = Redactor(["in-use-since-the-start"])
    redactor.register(*(f"rotated-{number:06}" for number in range(MAX_SECRETS - 1)))
    redactor.register("in-use-since-the-start", "newest-of-all")

    shown = redactor.text("in-use-since-the-start newest-of-all rotated-000000")

    assert shown == f"{MASK} {MASK} rotated-000000"
    assert len(redactor._known) == MAX_SECRETS
