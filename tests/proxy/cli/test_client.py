"""What becomes of answers that are none, and of refusals."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from proxy.cli import client
from proxy.cli.client import Client
from proxy.cli.exits import Failed
from tests.proxy.cli.rig import Run, ScriptedProxy


@contextmanager
def raw_server(answer: bytes, *, closes: bool = True) -> Iterator[str]:
    """Send these bytes to the first caller, then close or say nothing more."""
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(answer)
            if not closes:
                done.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def test_refused_connection_ends_with_3(cli: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    ended = cli("deployments", "--url", url)

    assert (ended.code, ended.errors) == (3, f"no proxy listens at {url}: connection refused\n")


def test_name_that_does_not_exist_ends_with_3(cli: Run) -> None:
    ended = cli("deployments", "--url", "http://no-such-host.invalid")

    assert (ended.code, "Traceback" in ended.errors) == (3, False)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"])
def test_silence_is_cut_off(answer: bytes) -> None:
    with raw_server(answer, closes=False) as url, pytest.raises(Failed) as failed:
        Client(url, None, timeout_s=0.1).ask("GET", "/deployments")

    assert (failed.value.code, failed.value.message) == (3, f"the proxy at {url} did not answer within 0.1 s")


def test_answer_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 31.0))
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{") as url, pytest.raises(Failed) as failed:
        Client(url, None).ask("GET", "/deployments")

    assert failed.value.message.endswith("did not answer within 30 s")


def test_change_that_got_no_answer_may_have_been_made_and_says_so(cli: Run) -> None:
    with raw_server(b"") as url:
        ended = cli("config", "set", "a=1", "--url", url)

    assert ended.code == 3
    assert "look at `deployments list`" in ended.errors


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_answer_that_is_none_ends_with_3(cli: Run, answer: bytes) -> None:
    with raw_server(answer) as url:
        ended = cli("deployments", "--url", url)

    assert (ended.code, ended.output) == (3, "")
    assert ended.errors
    assert "Traceback" not in ended.errors


def test_answer_has_a_largest_size(cli: Run, scripted: ScriptedProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.on("GET", "/deployments", {"deployments": ["x" * 100]})
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 50)

    ended = cli("deployments", "--url", scripted.url)

    assert (ended.code, "larger than 50 bytes" in ended.errors) == (3, True)


def test_redirect_is_not_followed(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", {}, status=302)

    ended = ask("deployments")

    assert (ended.code, "redirects elsewhere (302)" in ended.errors, len(scripted.requests)) == (3, True, 1)


def test_http_proxies_of_the_environment_are_not_used(
    ask: Run, scripted: ScriptedProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.on("GET", "/deployments", {"deployments": []})
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert ask("deployments").code == 0


def test_path_of_the_url_goes_before_every_path(cli: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/switchyard/deployments", {"deployments": []})

    assert cli("deployments", "--url", f"{scripted.url}/switchyard/").code == 0


# -- refusals --------------------------------------------------------------------------------------------------------


def test_invalid_change_is_told_a_line_each(ask: Run, scripted: ScriptedProxy) -> None:
    errors = [
        {"path": "cache.ttl", "message": "-5 is not above 0", "got": -5},
        {"path": "", "message": "odd\x1b[31m", "got": None},
    ]
    scripted.problem("PATCH", "/config", 422, detail="two things", code="invalid_config", errors=errors)

    ended = ask("config", "set", "cache.ttl=-5")

    assert (ended.code, ended.output) == (1, "")
    assert ended.errors == "cache.ttl: -5 is not above 0\nodd\\x1b[31m\n"


def test_refusal_is_printed_as_json_on_demand(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.problem("POST", "/deployments", 422, detail="no", errors=[{"path": "a", "message": "b"}])

    ended = ask("deploy", "--json")

    assert (ended.code, ended.errors) == (1, "a: b\n")
    assert json.loads(ended.output)["errors"] == [{"path": "a", "message": "b"}]


def test_lost_race_tells_the_current_revision(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.problem("PATCH", "/config", 412, detail="no", revision=9)

    ended = ask("config", "set", "a=1", "--if-match", "7")

    assert (ended.code, ended.errors) == (1, "nothing was changed: the revision is now 9, not 7\n")
    assert scripted.requests[0].headers["if-match"] == '"7"'


@pytest.mark.parametrize("status", [400, 404, 413, 500, 503, 507])
def test_other_refusals_end_with_1_and_their_reason(ask: Run, scripted: ScriptedProxy, status: int) -> None:
    scripted.problem("GET", "/deployments/9", status, detail="there is no revision 9")

    ended = ask("deployments", "show", "9")

    assert (ended.code, ended.errors) == (1, "there is no revision 9\n")
