"""What is read from the second store is what was written there, or nothing."""

from zlib import crc32

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.codec import decode, encode
from plugins.cache.entry import Entry
from tests.plugins.cache.entries import ENTRIES, make_entry


def sealed(content: bytes) -> bytes:
    """Put the right checksum behind whatever it is."""
    return content + crc32(content).to_bytes(4)


def written(entry: Entry) -> bytes:
    data = encode(entry)
    assert data is not None
    return data


def with_line(entry: Entry, **changes: object) -> bytes:
    line, _, rest = written(entry)[:-4].partition(b"\n")
    return sealed(orjson.dumps({**orjson.loads(line), **changes}) + b"\n" + rest)


@given(ENTRIES)
def test_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert decode(written(entry), entry.key) == entry


@given(ENTRIES, st.data())
def test_damage_anywhere_gives_nothing(entry: Entry, data: st.DataObject) -> None:
    whole = bytearray(written(entry))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))

    assert decode(bytes(whole), entry.key) is None


@given(ENTRIES, st.data())
def test_cut_gives_nothing(entry: Entry, data: st.DataObject) -> None:
    whole = written(entry)

    assert decode(whole[: data.draw(st.integers(0, len(whole) - 1))], entry.key) is None


@given(st.binary(max_size=300))
def test_rubbish_gives_nothing(content: bytes) -> None:
    assert decode(content, b"k" * 16) is None
    assert decode(sealed(content), b"k" * 16) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([*orjson.loads(written(make_entry()).partition(b"\n")[0]), "other"]), JSON)
def test_hostile_line_raises_nothing(name: str, value: object) -> None:
    entry = make_entry()

    decoded = decode(with_line(entry, **{name: value}), entry.key)

    assert decoded is None or (decoded.key == entry.key and decoded.head in (b"", entry.head))


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"status": 500},
        {"status": True},
        {"status": "200"},
        {"ttl_s": -1},
        {"ttl_s": None},
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"head_bytes": 10**9},
        {"head_bytes": -1},
        {"head_bytes": 31},
        {"pace_bytes": 3},
        {"unheard_of": 1},
        {"partition": None},
    ],
    ids=str,
)
def test_line_that_is_not_ours_gives_nothing(changes: dict[str, object]) -> None:
    entry = make_entry()

    assert decode(with_line(entry), entry.key) == entry
    assert decode(with_line(entry, **changes), entry.key) is None


@pytest.mark.parametrize(
    "head",
    [b"\r\n", b"A: b", b"A: b\n", b"A: b\r\n\r\nHTTP/1.1 200 OK\r\n", b"A: b\r\r\n", b"A: \0\r\n", b"\r\nA: b\r\n"],
)
def test_head_that_would_end_an_answer_early_gives_nothing(head: bytes) -> None:
    entry = make_entry(head=head)

    assert decode(written(entry), entry.key) is None


def test_entry_of_another_key_gives_nothing() -> None:
    entry = make_entry("a")

    assert decode(written(entry), make_entry("b").key) is None


def test_what_json_cannot_say_is_not_written() -> None:
    assert encode(make_entry(input_tokens=2**70)) is None
    assert encode(make_entry(model="\ud800")) is None
