"""A YAML file becomes plain values with lines, or one clear error."""

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.document import MAX_FILE_BYTES, MAX_VALUES, parse_yaml, plain_scalar, read_yaml
from proxy.errors import ConfigError


def fault_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "a.yaml")
    return caught.value.message


def test_every_key_and_item_has_its_line() -> None:
    _, lines = parse_yaml("a: 1\n\nb:\n  c: [x,\n      y]\n", "a.yaml")

    assert lines == {("a",): 1, ("b",): 3, ("b", "c"): 4, ("b", "c", 0): 4, ("b", "c", 1): 5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("012", 12),
        ("0o14", 12),
        ("0x1F", 31),
        ("60:30", "60:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("-5", -5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("'true'", "true"),
        ("!!str 12", "12"),
        ("60s", "60s"),
        ("=", "="),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    document, _ = parse_yaml(f"a: {text}\n", "a.yaml")

    assert document == {"a": value}
    assert type(document["a"]) is type(value)


def test_directive_for_yaml_1_1_changes_no_scalar() -> None:
    document, _ = parse_yaml("%YAML 1.1\n---\na: 012\nb: 0x10\n", "a.yaml")

    assert document == {"a": 12, "b": 16}


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "~\n", "null\n", "a:\nb: ~\n"])
def test_nothing_means_defaults(text: str) -> None:
    document, _ = parse_yaml(text, "a.yaml")

    assert document == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: a: stands twice, first on line 1"),
        ("a: {b: 1, b: 2}\n", "a.yaml:1: a.b: stands twice, first on line 1"),
        ("- a\n", "a.yaml:1: the top level is not a mapping of keys to values"),
        ("hello\n", "a.yaml:1: the top level is not a mapping of keys to values"),
        ("a: !!python/object/apply:os.system [ls]\n", "a.yaml:1: a: the tag tag:yaml.org,2002:python/object"),
        ("a: !foo 3\n", "a.yaml:1: a: the tag !foo is not supported"),
        ("a: !!binary aGk=\n", "a.yaml:1: a: the tag tag:yaml.org,2002:binary is not supported"),
        ("a: .inf\n", "a.yaml:1: a: .inf is not a finite number"),
        ("a: .nan\n", "a.yaml:1: a: .nan is not a finite number"),
        ("a: 1e999\n", "a.yaml:1: a: 1e999 is too large a number"),
        ("a: 99999999999999999999\n", "a.yaml:1: a: 99999999999999999999 does not fit in 64 bits"),
        ("a: " + "9" * 5000 + "\n", "does not fit in 64 bits"),
        ("b: &b {x: 1}\na:\n  <<: *b\n", "a.yaml:3: a.<<: merge keys are not part of YAML 1.2"),
        ("? [a]\n: 1\n", "a.yaml:1: a key here is not text"),
        (": 1\n", "a.yaml:1: a key here is not text"),
        ("a: [1\n", "a.yaml:2: is not valid YAML: "),
        ("a: *nothing\n", "a.yaml:1: is not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "a.yaml:2: is not valid YAML: "),
        ("a: 1\nb: \x07\n", "a.yaml:2: is not valid YAML: the control character U+0007 is not allowed"),
        ("\t a: 1", "a.yaml:1: is not valid YAML: "),
        ("a: &a [*a]\n", "too large, or an alias that holds itself"),
        ("a: " + "[" * 40 + "]" * 40, "too large, or an alias that holds itself"),
        ("a: " + "[" * 100_000, "a.yaml"),
    ],
)
def test_what_no_document_may_hold_is_refused(text: str, message: str) -> None:
    assert message in fault_of(text)


def test_all_faults_of_a_file_are_told_at_once() -> None:
    message = fault_of("a: .inf\nb: 1\nb: 2\nc: !x y\n")

    assert [line.split(": ")[0] for line in message.splitlines()] == ["a.yaml:1", "a.yaml:3", "a.yaml:4"]


def test_aliases_that_multiply_end_at_a_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]

    assert f"more than {MAX_VALUES:,} values" in fault_of("\n".join(lines))


def test_alias_stands_for_the_same_value_again() -> None:
    document, _ = parse_yaml("a: &t {connect: 1s}\nb: *t\n", "a.yaml")

    assert document == {"a": {"connect": "1s"}, "b": {"connect": "1s"}}


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_text("#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "latin").write_bytes(b"a: 1\nb: \xe4\n")

    messages = {}
    for name in ("missing", "fifo", "large", "latin", "."):
        with pytest.raises(ConfigError) as caught:
            read_yaml(tmp_path / name)
        messages[name] = caught.value.message.removeprefix(str(tmp_path))

    assert messages == {
        "missing": "/missing: cannot be read: no such file or directory",
        "fifo": "/fifo: is no regular file",
        "large": "/large: is larger than 1,048,576 bytes",
        "latin": "/latin:2: is not UTF-8 text",
        ".": ": is a folder",
    }


def test_device_that_never_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no regular file"):
        read_yaml(Path("/dev/zero"))


def test_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")

    assert read_yaml(tmp_path / "a.yaml")[0] == {"a": 1}


YAML_LIKE = st.text(st.sampled_from(list("ab:-?&*!|>%@`'\"{}[],# \n\t\r0.~<\\\u2028\ud800")), max_size=60)


@given(st.one_of(st.text(max_size=200), YAML_LIKE))
def test_any_text_gives_a_json_document_or_a_config_error(text: str) -> None:
    try:
        document, lines = parse_yaml(text, "a.yaml")
    except ConfigError as error:
        refused = error
    else:
        assert isinstance(document, dict)
        assert all(line >= 1 for line in lines.values())
        return
    assert all(line.startswith("a.yaml") for line in refused.message.split("\n"))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    try:
        read_yaml(path)
    except ConfigError:
        pass


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"), max_size=8),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner),
    max_leaves=10,
)


def without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text("abc", min_size=1), JSON))
def test_json_is_read_as_what_it_is(document: dict[str, object]) -> None:
    read, _ = parse_yaml(orjson.dumps(document).decode(), "a.json")

    assert read == without_nulls(document)


@given(st.text(max_size=20))
def test_plain_scalar_is_json_or_refused(text: str) -> None:
    try:
        value = plain_scalar(text)
    except ValueError:
        return
    orjson.dumps(value) if not isinstance(value, str) else None
