"""How a verb finds the running proxy and its token."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.cli.rig import Run, ScriptedProxy


@pytest.fixture
def home(tmp_path: Path, scripted: ScriptedProxy) -> Path:
    """A folder with a configuration, whose proxy is the scripted one."""
    scripted.on("GET", "/deployments", {"current": 1, "deployments": []})
    (tmp_path / "conf").mkdir()
    write_config(tmp_path, "state: {dir: state}\n")
    (tmp_path / "state").mkdir()
    write_address(tmp_path, {"url": scripted.url, "pid": os.getpid()})
    return tmp_path


def write_config(home: Path, text: str) -> None:
    (home / "conf" / "proxy.yaml").write_text(text)


def write_address(home: Path, document: Any) -> None:
    (home / "state" / "address.json").write_text(json.dumps(document))


def token_sent(scripted: ScriptedProxy) -> str | None:
    return scripted.requests[-1].headers.get("authorization")


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_running_proxy_is_found_by_the_file_in_its_state_folder(cli: Run, home: Path, scripted: ScriptedProxy) -> None:
    assert cli("deployments").code == 0
    assert token_sent(scripted) is None


def test_state_folder_may_be_a_reference(
    cli: Run, home: Path, monkeypatch: pytest.MonkeyPatch, scripted: ScriptedProxy
) -> None:
    write_config(home, "state: {dir: '${PROXY_STATE_DIR:-elsewhere}'}\n")
    monkeypatch.setenv("PROXY_STATE_DIR", str(home / "state"))

    assert cli("deployments").code == 0


def test_state_folder_is_var_unless_given(cli: Run, home: Path, scripted: ScriptedProxy) -> None:
    write_config(home, "")
    (home / "state").rename(home / "var")

    assert cli("deployments").code == 0


def test_config_names_another_proxy(cli: Run, home: Path, scripted: ScriptedProxy) -> None:
    (home / "conf" / "proxy.yaml").rename(home / "other.yaml")

    assert cli("deployments").code == 3
    assert cli("deployments", "--config", "other.yaml").code == 0


def test_url_goes_before_environment_and_environment_before_file(
    cli: Run, home: Path, scripted: ScriptedProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_address(home, {"url": "http://127.0.0.1:1", "pid": os.getpid()})
    from_file = cli("deployments").code
    monkeypatch.setenv("SWITCHYARD_URL", scripted.url)
    from_environment = cli("deployments").code
    monkeypatch.setenv("SWITCHYARD_URL", "http://127.0.0.1:1")

    assert (from_file, from_environment, cli("deployments", "--url", scripted.url).code) == (3, 0, 0)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (None, "does not exist"),
        ({"url": "http://127.0.0.1:1"}, "holds no address"),
        ({"url": "file:///etc/passwd", "pid": 1}, "holds no address"),
        ({"url": 5, "pid": 1}, "holds no address"),
        ([], "holds no address"),
        ({"url": "http://127.0.0.1:1", "pid": 0}, "names no process"),
        ({"url": "http://127.0.0.1:1", "pid": "x"}, "names no process"),
        ({"url": "http://127.0.0.1:1", "pid": 1 << 80}, "has ended"),
    ],
)
def test_address_that_leads_nowhere_is_told_with_its_place(cli: Run, home: Path, address: object, words: str) -> None:
    if address is None:
        (home / "state" / "address.json").unlink()
    else:
        write_address(home, address)

    ended = cli("deployments")

    assert (ended.code, ended.output) == (3, "")
    assert words in ended.errors
    assert str(home / "state" / "address.json") in ended.errors
    assert "start one: python -m proxy\n" in ended.errors
    assert "--url" in ended.errors


def test_address_of_a_process_that_has_ended_is_not_asked(cli: Run, home: Path, scripted: ScriptedProxy) -> None:
    write_address(home, {"url": scripted.url, "pid": ended_process()})

    ended = cli("deployments")

    assert (ended.code, "has ended" in ended.errors, scripted.requests) == (3, True, [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("state: [", "is not valid YAML"),
        ("- list", "is not a mapping"),
        ("a: 1\na: 2", "is not valid YAML"),
        ("state: {dir: '${NO_SUCH_VARIABLE_X}'}", "NO_SUCH_VARIABLE_X is not set"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_broken_file_is_told_and_does_not_matter_where_url_is_given(
    cli: Run, home: Path, scripted: ScriptedProxy, text: str | bytes | None, words: str
) -> None:
    path = home / "conf" / "proxy.yaml"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    without = cli("deployments")

    assert (without.code, "conf/proxy.yaml" in without.errors, words in without.errors) == (3, True, True), without
    assert "Traceback" not in without.errors
    assert cli("deployments", "--url", scripted.url).code == 0


def test_file_that_is_yaml_but_not_valid_is_good_enough(cli: Run, home: Path) -> None:
    write_config(home, "state: {dir: state}\nnonsense: 1\nadmin: 5\n")

    assert cli("deployments").code == 0


def test_pipe_in_the_place_of_the_file_does_not_hang(cli: Run, home: Path) -> None:
    (home / "conf" / "proxy.yaml").unlink()
    os.mkfifo(home / "conf" / "proxy.yaml")

    assert cli("deployments").code == 3


# -- the token -------------------------------------------------------------------------------------------------------


def test_token_comes_from_option_environment_and_file_in_this_order(
    cli: Run, home: Path, scripted: ScriptedProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(home, "state: {dir: state}\nadmin: {token: '${MY_TOKEN}'}\n")
    monkeypatch.setenv("MY_TOKEN", "from-file")
    cli("deployments")
    from_file = token_sent(scripted)
    monkeypatch.setenv("PROXY_ADMIN_TOKEN", "from-environment")
    cli("deployments")
    from_environment = token_sent(scripted)
    cli("deployments", "--token", "from-option")

    assert from_file == "Bearer from-file"
    assert from_environment == "Bearer from-environment"
    assert token_sent(scripted) == "Bearer from-option"


def test_empty_token_is_none(cli: Run, home: Path, scripted: ScriptedProxy) -> None:
    write_config(home, "state: {dir: state}\nadmin: {token: '${PROXY_ADMIN_TOKEN:-}'}\n")

    cli("deployments")

    assert token_sent(scripted) is None


def test_token_of_the_file_goes_to_a_url_on_this_machine(cli: Run, home: Path, scripted: ScriptedProxy) -> None:
    write_config(home, "admin: {token: from-file}\n")

    cli("deployments", "--url", scripted.url)

    assert token_sent(scripted) == "Bearer from-file"


@pytest.mark.parametrize(("arguments", "sent"), [([], None), (["--config", "conf/proxy.yaml"], "Bearer from-file")])
def test_token_of_the_file_goes_to_no_other_host_unless_the_file_is_named(
    cli: Run,
    home: Path,
    scripted: ScriptedProxy,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sent: str | None,
) -> None:
    write_config(home, "admin: {token: from-file}\n")
    monkeypatch.setattr("proxy.cli.address.is_loopback", lambda host: False)

    cli("deployments", "--url", scripted.url, *arguments)

    assert token_sent(scripted) == sent


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_for_want_of_a_token_says_how_to_give_one(
    cli: Run, home: Path, scripted: ScriptedProxy, status: int
) -> None:
    scripted.problem("GET", "/deployments", status, detail="the admin side needs a token")

    ended = cli("deployments")

    assert ended.code == 1
    assert ended.errors.startswith("the admin side needs a token\n")
    assert "--token" in ended.errors
    assert "PROXY_ADMIN_TOKEN" in ended.errors


def test_token_of_the_file_that_cannot_be_read_is_named_when_it_is_missed(
    cli: Run, home: Path, scripted: ScriptedProxy
) -> None:
    write_config(home, "state: {dir: state}\nadmin: {token: '${NO_SUCH_VARIABLE_X}'}\n")
    scripted.problem("GET", "/deployments", 401, detail="no")

    assert (
        "admin.token of conf/proxy.yaml: the environment variable NO_SUCH_VARIABLE_X is not set"
        in cli("deployments").errors
    )


def test_token_is_never_printed(cli: Run, home: Path, scripted: ScriptedProxy) -> None:
    write_config(home, "state: {dir: state}\nadmin: {token: secret-word}\n")
    scripted.problem("GET", "/deployments", 401, detail="wrong token")

    for arguments in (
        ["deployments"],
        ["deployments", "--token", "secret-word"],
        ["--token", "secret-word\x1b", "deploy"],
    ):
        ended = cli(*arguments)
        assert ended.code in (1, 2)
        assert "secret-word" not in ended.output + ended.errors
