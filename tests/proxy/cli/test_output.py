"""Terminals, pipes, signals, and what a verb costs to start."""

import os
import re
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.cli.screen import relative
from tests.proxy.cli.rig import (
    ROOT,
    ScriptedProxy,
    clean_environment,
    command,
    run_on_terminal,
    run_process,
)

ISSUES = {
    "revision": 7,
    "issues": [{"severity": "error", "path": "a", "message": "evil \x1b[2J\x9b2J", "fix": "curl \x1b[2J"}],
}
DIFF = {"diff": [{"path": "a", "old": 1, "new": 2}, {"path": "b", "old": None, "new": "\x1b[2J"}]}


def test_terminal_gets_colours_and_escaped_values(scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config/issues", ISSUES)

    ended = run_on_terminal("--url", scripted.url, "config", "issues")

    assert ended.code == 1
    assert "\x1b[31merror\x1b[0m" in ended.output
    assert "evil \\x1b[2J\\x9b2J" in ended.output
    assert set(re.findall("\x1b\\[[0-9;]*.|\x9b", ended.output)) == {"\x1b[31m", "\x1b[1m", "\x1b[0m"}


def test_diff_on_a_terminal_is_red_and_green(scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments/1/diff/2", DIFF)

    ended = run_on_terminal("--url", scripted.url, "deployments", "diff", "1", "2")

    assert ended.output == ('  a: \x1b[31m1\x1b[0m -> \x1b[32m2\x1b[0m\n\x1b[32m+ b: "\\u001b[2J"\x1b[0m\n')


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_switched_off(scripted: ScriptedProxy, environment: dict[str, str]) -> None:
    scripted.on("GET", "/config/issues", ISSUES)

    ended = run_on_terminal("--url", scripted.url, "config", "issues", environment=environment)

    assert "\x1b" not in ended.output


def test_pipe_gets_no_colours(scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config/issues", ISSUES)

    ended = run_process("--url", scripted.url, "config", "issues")

    assert ended.code == 1
    assert "\x1b" not in ended.output


def test_terminal_gets_local_and_relative_times(scripted: ScriptedProxy) -> None:
    time = (datetime.now(UTC) - timedelta(seconds=200)).replace(microsecond=0)
    entry = {"id": 1, "time": time.isoformat().replace("+00:00", "Z"), "reason": "x" * 100}
    scripted.on("GET", "/deployments", {"deployments": [entry, {"id": 0, "time": "last week"}]})

    ended = run_on_terminal("--url", scripted.url, "deployments", environment={"TZ": "UTC-5"})

    assert f"{time + timedelta(hours=5):%Y-%m-%d %H:%M:%S} (3m ago)" in ended.output
    assert "last week" in ended.output
    assert "x" * 59 + "…" in ended.output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "now"), (-1, "1s ago"), (-59.9, "59s ago"), (-60, "1m ago"), (7200, "in 2h"), (-200_000, "2d ago")],
)
def test_distance_in_time_is_told_in_one_unit(seconds: float, text: str) -> None:
    assert relative(seconds) == text


def test_value_on_a_terminal_cannot_steer_it(scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config", {"a": "x\x1b[2J"})

    assert run_on_terminal("--url", scripted.url, "config", "get", "a").output == "x\\x1b[2J\n"
    assert run_process("--url", scripted.url, "config", "get", "a").output == "x\x1b[2J\n"


def test_output_that_cannot_hold_a_character_still_works(scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config", {"a": "→"})

    ended = run_process("--url", scripted.url, "config", "get", "a", environment={"PYTHONIOENCODING": "ascii"})

    assert (ended.code, ended.output) == (0, "\\u2192\n")


@pytest.mark.parametrize(("verb", "code"), [(["deployments"], 0), (["config", "issues"], 1)])
def test_reader_that_leaves_early_costs_no_traceback_and_no_exit_code(
    scripted: ScriptedProxy, verb: list[str], code: int
) -> None:
    scripted.on("GET", "/deployments", {"deployments": [{"id": number} for number in range(20_000)]})
    scripted.on("GET", "/config/issues", {"issues": ISSUES["issues"] * 5000})
    reader, writer = os.pipe()
    process = subprocess.Popen(
        command("--url", scripted.url, *verb),
        cwd=ROOT,
        env=clean_environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    os.read(reader, 100)
    os.close(reader)

    _, errors = process.communicate(timeout=20)

    assert (process.returncode, errors) == (code, "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_output_that_cannot_be_written_is_told(scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", {"deployments": []})
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command("--url", scripted.url, "deployments"),
            cwd=ROOT,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )

    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert "no space left" in ended.stderr.lower()


def test_interrupt_ends_with_130_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            command("--url", url, "deployments"),
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)  # it waits for an answer now
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)

    assert (process.returncode, output, errors) == (130, "", "")


# -- what is imported ------------------------------------------------------------------------------------------------

HEAVY = ("aiohttp", "uvloop", "pydantic", "loguru", "shtab", "proxy.app")
LOOK = """
import sys
from proxy.__main__ import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    print(end.code, *(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stderr)
"""


def loaded_by(*arguments: str, of: tuple[str, ...]) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", LOOK, ",".join(of), *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=20,
    )
    return ended.stderr.strip().rpartition("\n")[2]


@pytest.mark.parametrize("verb", [["config", "get", "a"], ["config", "set", "a=1"], ["deployments"], ["deploy"]])
def test_verb_loads_nothing_heavy(scripted: ScriptedProxy, verb: list[str]) -> None:
    for method, path in (("GET", "/config"), ("PATCH", "/config"), ("GET", "/deployments"), ("POST", "/deployments")):
        scripted.on(method, path, {"a": 1, "deployments": []})

    assert loaded_by("--url", scripted.url, *verb, of=HEAVY) == "0"


def test_finding_the_proxy_by_its_file_loads_nothing_heavy() -> None:
    assert loaded_by("--config", "conf/examples/fallback.yaml", "deployments", of=HEAVY) == "3"


def test_start_loads_no_verb() -> None:
    verbs = tuple(
        f"proxy.cli.{name}" for name in ("session", "client", "address", "screen", "deploy", "config", "deployments")
    )

    assert loaded_by("--config", "/no/such/file.yaml", of=verbs) == "78"
