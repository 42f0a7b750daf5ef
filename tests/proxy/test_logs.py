"""One record is one line, without secrets, in both formats; a stream that fails fails nobody."""

import base64
import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from proxy.config.models import LogSettings
from proxy.events import Events
from proxy.logs import MAX_LINE_BYTES, Logs, json_line, setup, text_line
from proxy.redaction import Redactor

CANARY = "canary-4f9a77e1"


@contextmanager
def logging_to(stream: io.StringIO, events: Events, **settings: object) -> Iterator[Logs]:
    logs = setup(LogSettings.model_validate(settings), events, redactor=Redactor([CANARY]), stream=stream)
    try:
        yield logs
    finally:
        logs.close()


def lines_of(write: Callable[[Events], object], **settings: object) -> list[dict[str, object]]:
    stream, events = io.StringIO(), Events(lambda: 0.25)
    with logging_to(stream, events, **{"format": "json", **settings}):
        write(events)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_becomes_a_line_with_its_kind() -> None:
    lines = lines_of(lambda events: events.emit("WARN", "upstream_auth", "no key", request_id="r1", status=401))

    assert lines == [
        {
            "timestamp": "1970-01-01T00:00:00.250Z",
            "level": "WARN",
            "event": "upstream_auth",
            "message": "no key",
            "request_id": "r1",
            "status": 401,
        }
    ]


def test_text_format_reads_well() -> None:
    stream, events = io.StringIO(), Events(lambda: 0)

    with logging_to(stream, events, format="text"):
        events.emit("WARN", "upstream_auth", "no key", provider="openai", note="two words", n=5)

    assert stream.getvalue() == (
        '1970-01-01T00:00:00.000Z WARN  upstream_auth: no key provider=openai note="two words" n=5\n'
    )


def test_auto_means_json_where_nobody_sits_at_a_terminal() -> None:
    assert lines_of(lambda events: events.emit("INFO", "a", "b"), format="auto")[0]["event"] == "a"


def test_every_level_has_the_word_that_people_grep_for() -> None:
    def write(_: Events) -> None:
        for write_line in (logger.debug, logger.info, logger.warning, logger.error, logger.critical):
            write_line("x")

    assert [line["level"] for line in lines_of(write, level="debug")] == ["DEBUG", "INFO", "WARN", "ERROR", "ERROR"]


def test_level_can_change_at_any_time() -> None:
    stream, events = io.StringIO(), Events()

    with logging_to(stream, events, format="json", level="warn") as logs:
        for level in ("DEBUG", "WARN", "ERROR"):
            logs.set_level(level)
            logger.debug(f"debug at {level}")
            logging.getLogger("x").warning("warning at %s", level)
            events.emit("INFO", "info", f"info at {level}")

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "debug at DEBUG",
        "warning at DEBUG",
        "info at DEBUG",
        "warning at WARN",
    ]


def test_standard_logging_comes_through_with_its_name_and_traceback() -> None:
    def write(_: Events) -> None:
        try:
            raise ValueError("bad")
        except ValueError:
            logging.getLogger("aiohttp.server").exception("failed %s", "here {x}")
        logging.getLogger("asyncio").warning("%d", "not a number")

    first, second = lines_of(write)

    assert (first["event"], first["message"], first["level"]) == ("aiohttp.server", "failed here {x}", "ERROR")
    assert "ValueError: bad" in str(first["exception"])
    assert (second["message"], second["level"]) == ("%d", "WARN")


def test_traceback_shows_no_values_of_local_variables() -> None:
    def write(_: Events) -> None:
        prompt = "a" + "-local-value"
        try:
            raise ValueError(len(prompt))
        except ValueError:
            logger.bind(plugin="cache").exception("failed")

    (line,) = lines_of(write)

    assert line["plugin"] == "cache"
    assert "-local-value" not in str(line["exception"]).replace('"-local-value"', "")


@pytest.mark.parametrize("form", [CANARY, base64.b64encode(CANARY.encode()).decode(), f"x%2F{CANARY}"])
def test_secret_is_in_no_part_of_a_line(form: str) -> None:
    def write(events: Events) -> None:
        events.emit("ERROR", "a", f"message {form}", field=form, nested={"list": [form]}, authorization="Basic eA==")
        try:
            raise ValueError(form)
        except ValueError:
            logger.bind(extra=form).exception(f"message {form}")
        logging.getLogger("x").error("%s", form)

    shown = json.dumps(lines_of(write))

    assert form not in shown
    assert "eA==" not in shown


HOSTILE = "a\nb\r\x1b[31m\x00\x07\x7f\x85\x9b\u2028\u2029\u202e\u2066\ufeff\ud800"


@pytest.mark.parametrize("line_of", [json_line, text_line])
def test_hostile_characters_are_escaped(line_of: Callable[..., bytes]) -> None:
    own = {"timestamp": "t", "level": "INFO", "event": HOSTILE, "message": HOSTILE, "exception": HOSTILE}

    line = line_of(own, {HOSTILE: HOSTILE, "list": [HOSTILE], "map": {HOSTILE: 1}}).decode()

    assert line.endswith("\n")
    assert line[:-1].isprintable()


TEXT = st.text(st.characters(), max_size=60)
FIELDS = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


@given(TEXT, FIELDS)
def test_anything_logged_is_one_line_of_json(message: str, fields: dict[str, object]) -> None:
    own = {"timestamp": "t", "level": "INFO", "event": "e", "message": message}

    line = json_line(own, fields)

    assert line.count(b"\n") == 1
    assert isinstance(json.loads(line), dict)
    assert text_line(own, fields).count(b"\n") == 1


@pytest.mark.parametrize("line_of", [json_line, text_line])
@pytest.mark.parametrize("unit", ["x", "\n", "é", "\u2028", "🙂"])
def test_line_is_at_most_16_kib(line_of: Callable[..., bytes], unit: str) -> None:
    own = {"timestamp": "t", "level": "INFO", "event": "e", "message": unit * 100_000, "exception": unit * 100_000}
    fields = {"a": unit * 100_000, "b": [unit * 100] * 1000, "c": {f"{unit}{i}": unit for i in range(5000)}}

    line = line_of(own, fields)

    assert len(line) <= MAX_LINE_BYTES
    assert line.endswith(b"\n")
    line.decode()


def test_secret_at_the_cut_of_a_long_text_is_not_left_in_half() -> None:
    for padding in range(65536 - 40, 65536 + 1, 3):
        text = CANARY * 3000 + " " + "x" * (padding - 3000 * len(CANARY) - 1) + CANARY

        (line,) = lines_of(lambda events, text=text: events.emit("INFO", "a", text))

        assert CANARY[:8] not in str(line["message"])


def test_field_cannot_take_the_place_of_the_lines_own_keys() -> None:
    (line,) = lines_of(lambda _: logger.bind(level="FAKE", timestamp="never").info("x"))

    assert (line["level"], line["field_level"], line["field_timestamp"]) == ("INFO", "FAKE", "never")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_object_without_text_is_counted_and_fails_nobody() -> None:
    stream, events = io.StringIO(), Events()

    with logging_to(stream, events, format="json") as logs:
        events.emit("INFO", "a", "b", thing=Unprintable())
        events.emit("INFO", "a", "after")

    assert logs.dropped == 1
    assert json.loads(stream.getvalue())["message"] == "after"


def test_closed_pipe_fails_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    events = Events()

    with os.fdopen(writing, "w") as stream:
        logs = setup(LogSettings(), events, stream=stream)
        events.emit("ERROR", "a", "b")
        logger.error("c")
        logging.getLogger("x").error("d")
        logs.close()

    assert logs.dropped == 3


def test_full_disk_fails_nobody_and_leaves_nothing_for_the_exit() -> None:
    events = Events()

    with Path("/dev/full").open("w") as stream:
        logs = setup(LogSettings(), events, stream=stream)
        events.emit("ERROR", "a", "b")
        logs.close()

    assert logs.dropped == 1


def test_closed_stream_fails_nobody() -> None:
    stream, events = io.StringIO(), Events()

    with logging_to(stream, events) as logs:
        stream.close()
        events.emit("ERROR", "a", "b")

    assert logs.dropped == 1


def test_line_goes_on_a_new_line_after_one_that_was_torn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, calls = os.write, iter([5, OSError(11, "try again")])

    def tearing(descriptor: int, data: bytes) -> int:
        step = next(calls, None)
        if isinstance(step, OSError):
            raise step
        return real(descriptor, data if step is None else data[:step])

    events = Events()
    with (tmp_path / "log").open("w") as stream:
        logs = setup(LogSettings(format="json"), events, stream=stream)
        monkeypatch.setattr(os, "write", tearing)
        events.emit("ERROR", "a", "first")
        events.emit("ERROR", "a", "second")
        logs.close()

    torn, whole = (tmp_path / "log").read_text().splitlines()
    assert (len(torn), json.loads(whole)["message"], logs.dropped) == (5, "second", 1)


def test_close_gives_everything_back() -> None:
    before = (logging.root.handlers[:], logging.root.level)
    stream, events = io.StringIO(), Events()

    with logging_to(stream, events):
        pass
    events.emit("ERROR", "a", "b")
    logger.error("c")

    assert stream.getvalue() == ""
    assert (logging.root.handlers, logging.root.level) == before
