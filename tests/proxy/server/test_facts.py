"""What a connection's headers say, and when they may be taken as read."""

import pytest

from proxy.errors import ClientError
from proxy.server.facts import HeaderFacts, caller_key

RAW = ((b"Host", b"a"), (b"Content-Length", b"10"), (b"X-One", b"1"))


def changed(index: int, name: bytes, value: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return (*RAW[:index], (name, value), *RAW[index + 1 :])


def test_same_headers_fit() -> None:
    assert HeaderFacts(RAW).fit(RAW)


def test_length_of_each_request_is_its_own() -> None:
    facts = HeaderFacts(RAW)

    fits = facts.fit(changed(1, b"Content-Length", b"5000"))

    assert fits
    assert facts.fields[b"content-length"] == b"5000"


@pytest.mark.parametrize(
    "raw",
    [
        (),
        RAW[:2],
        RAW[:1] + RAW[2:],
        (*RAW, (b"X-Two", b"2")),
        changed(0, b"Host", b"b"),
        changed(0, b"Origin", b"a"),
        changed(2, b"X-One", b"2"),
        changed(2, b"X-Two", b"1"),
        changed(1, b"Transfer-Encoding", b"chunked"),
        (RAW[1], RAW[0], RAW[2]),
    ],
)
def test_any_other_difference_is_read_anew(raw: tuple[tuple[bytes, bytes], ...]) -> None:
    assert not HeaderFacts(RAW).fit(raw)


def test_headers_without_a_length_fit_only_such() -> None:
    facts = HeaderFacts((RAW[0], RAW[2]))

    assert facts.fit((RAW[0], RAW[2]))
    assert not facts.fit(RAW)
    assert b"content-length" not in facts.fields


@pytest.mark.parametrize("second", [b"a", b"b"])
def test_repeated_host_is_refused(second: bytes) -> None:
    with pytest.raises(ClientError):
        HeaderFacts(((b"Host", b"a"), (b"X-One", b"1"), (b"hOST", second)))


def test_of_repeated_headers_the_last_counts() -> None:
    facts = HeaderFacts(((b"Host", b"a"), (b"X-One", b"1"), (b"x-one", b"2")))

    assert facts.fields[b"x-one"] == b"2"


@pytest.mark.parametrize("name", [b"Cache-Control", b"X-Forwarded-For"])
def test_lists_that_are_cut_into_several_lines_are_one(name: bytes) -> None:
    facts = HeaderFacts(((name, b"a"), (b"Host", b"h"), (name.lower(), b"b, c")))

    assert facts.fields[name.lower()] == b"a, b, c"


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, None),
        ({b"authorization": b"Bearer sk-1"}, "sk-1"),
        ({b"authorization": b"bearer  sk-1 "}, "sk-1"),
        ({b"authorization": b"Bearer"}, None),
        ({b"authorization": b"Basic sk-1"}, None),
        ({b"authorization": b"Basic dXNlcg==", b"x-api-key": b"sk-2"}, "sk-2"),
        ({b"x-api-key": b"sk-2"}, "sk-2"),
        ({b"x-goog-api-key": b"sk-3"}, "sk-3"),
        ({b"x-api-key": b"", b"x-goog-api-key": b"sk-3"}, "sk-3"),
        ({b"api-key": b"sk-4"}, "sk-4"),
        ({b"authorization": b"Bearer \xff"}, "ÿ"),
    ],
)
def test_key_is_found_where_sdks_put_it(fields: dict[bytes, bytes], key: str | None) -> None:
    assert caller_key(fields) == key
