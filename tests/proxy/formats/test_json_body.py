"""Bodies from outside become a dict or a MalformedBody, and a changed model changes nothing else."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import MalformedBody
from proxy.formats.json_body import dump, parse_object, replace_model

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("model"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b'{"model":\n nope}', "line 2, column"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b"[]", "got a list"),
        (b"null", "got null"),
        (b'"x"', "got a string"),
        (b"1", "got a number"),
        (b"true", "got a boolean"),
        ('{"model":"a"}'.encode("utf-16"), "not JSON"),
    ],
)
def test_what_is_no_object_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        parse_object(body)


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-" + "9" * 400, "1." + "3" * 5000])
@pytest.mark.parametrize("extra", ["", ',"x":{"model":"b"}'])
def test_huge_numbers_raise_nothing_else(number: str, extra: str) -> None:
    try:
        parse_object(f'{{"model":"a","n":{number}{extra}}}'.encode())
    except MalformedBody:
        pass


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"\\u006Dodel":"a","\\u006dodel":"b"}',
        b'{"model":"a","x":{"y":[{"model":1}]}, "model" : "a"}',
    ],
)
def test_model_given_twice_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="twice"):
        parse_object(body)


@pytest.mark.parametrize(
    "body", [b'{"model":"a","x":{"model":"b"}}', b'{"mod\\u0065l":"a"}', b'{"a":"\\u0065","b":[["model","model"]]}']
)
def test_model_further_inside_is_no_second_one(body: bytes) -> None:
    assert parse_object(body) == json.loads(body)


@given(st.binary())
def test_arbitrary_bytes_are_parsed_or_refused(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body), dict)
    except MalformedBody:
        pass


@given(st.dictionaries(TEXT, VALUES, max_size=4), VALUES, TEXT, st.booleans(), st.integers(0, 4))
def test_replaced_model_changes_nothing_else(
    others: dict[str, object], nested: object, model: str, is_ascii: bool, position: int
) -> None:
    items = [(key, value) for key, value in others.items() if key != "model"]
    items.insert(position, ("model", "old"))
    items.insert(0, ("messages", {"model": "old", "more": nested}))
    document = dict(items)
    body = json.dumps(document, ensure_ascii=is_ascii, indent=1).encode()

    changed = replace_model(body, parse_object(body), model)

    assert orjson.loads(changed) == {**document, "model": model}
    value = dump(model)
    at = changed.find(value)
    while at >= 0 and changed[:at] + b'"old"' + changed[at + len(value) :] != body:
        at = changed.find(value, at + 1)
    assert at >= 0, "some other byte has changed"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b' { "model" :\t"a" , "n": 1.0 }', b' { "model" :\t"b\\"" , "n": 1.0 }'),
        (b'{"mod\\u0065l":"\\u0061"}', b'{"mod\\u0065l":"b\\""}'),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"b\\""}'),
        (b'{"x":1}', b'{"x":1,"model":"b\\""}'),
    ],
)
def test_model_is_replaced_in_place(body: bytes, expected: bytes) -> None:
    assert replace_model(body, parse_object(body), 'b"') == expected


def test_top_level_model_is_found_among_many_others() -> None:
    body = b'{"x":[' + b",".join([b'{"model":"a"}'] * 6_000) + b'],"model":"a"}'

    assert replace_model(body, parse_object(body), "b") == body[:-4] + b'"b"}'


def test_keys_of_that_name_are_bounded() -> None:
    with pytest.raises(MalformedBody, match="10000 or more"):
        parse_object(b'{"x":[' + b",".join([b'{"model":"a"}'] * 10_000) + b"]}")


def test_key_that_looks_like_our_mark_changes_nothing_in_meaning() -> None:
    body = b'{"x":{"model":"c"},"\\u0000model0":1,"model":"a"}'

    changed = replace_model(body, {"x": {"model": "c"}, "\0model0": 1, "model": "a"}, "b")

    assert orjson.loads(changed) == {"x": {"model": "c"}, "\0model0": 1, "model": "b"}


def test_what_is_no_unicode_is_written_as_a_question_mark() -> None:
    assert dump({"a": "x\ud800"}) == b'{"a":"x?"}'
