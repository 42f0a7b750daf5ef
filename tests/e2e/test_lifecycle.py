"""How a process starts, refuses to start, is full, and ends."""

import asyncio
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from proxy.testing import FakeProvider, Faults, ProxyProcess, RawClient, RawResponse, encode_request
from tests.e2e.rig import CALLS, ROOT, STREAMS, Call, Ended, ask, clean_environment, health, run, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAM = STREAMS["openai"]
CHAT = CALLS["openai"]


@pytest_asyncio.fixture(loop_scope="session")
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Clients and processes of one test, all closed at its end."""
    async with AsyncExitStack() as opened:
        yield opened


async def start(stack: AsyncExitStack, config: dict[str, Any] | None = None, **options: Any) -> ProxyProcess:
    return await stack.enter_async_context(ProxyProcess(config, **{"environment": clean_environment(), **options}))


async def open_call(stack: AsyncExitStack, proxy: ProxyProcess, call: Call) -> RawClient:
    client = await stack.enter_async_context(RawClient(proxy.url))
    await client.send(encode_request("POST", call.path, call.body(), call.headers, host=f"127.0.0.1:{proxy.port}"))
    return client


async def begin_streams(stack: AsyncExitStack, proxy: ProxyProcess, count: int) -> list[tuple[RawClient, RawResponse]]:
    """Streams that have begun: their heads and a first event have been read."""
    begun = []
    for client in [await open_call(stack, proxy, STREAM) for _ in range(count)]:
        response = await client.read_head()
        await client.read_part(response)
        begun.append((client, response))
    return begun


async def proxy_command(*arguments: str, **environment: str) -> Ended:
    return await run(sys.executable, "-m", "proxy", *arguments, cwd=ROOT, **environment)


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_sigterm_during_fifty_streams_drops_none(stack: AsyncExitStack, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["one", " two", " three"], gate=gate)
    proxy = await start(stack, {"providers": {"openai": upstream.provider()}})
    streams = await begin_streams(stack, proxy, 50)

    proxy.send_signal(signal.SIGTERM)
    await until(lambda: "draining" in proxy.output, "the log tells of draining")
    gate.set()
    for client, response in streams:
        while await client.read_part(response):
            pass
    code = await proxy.wait()

    assert all(response.body.endswith(b"data: [DONE]\n\n") for _, response in streams)
    assert len({response.body for _, response in streams}) == 1
    assert code == 0
    assert "Traceback" not in proxy.output


async def test_readiness_is_503_from_the_moment_of_sigterm(stack: AsyncExitStack, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["one", " two"], gate=gate)
    proxy = await start(stack, {"providers": {"openai": upstream.provider()}})
    [(client, response)] = await begin_streams(stack, proxy, 1)

    proxy.send_signal(signal.SIGTERM)
    await until(lambda: "draining" in proxy.output, "the log tells of draining")
    ready = await ask(proxy, "GET", "/readyz")
    alive = await ask(proxy, "GET", "/livez")
    gate.set()
    while await client.read_part(response):
        pass

    assert (ready.status, ready.json()) == (503, {"status": "draining"})
    assert alive.status == 200
    assert await proxy.wait() == 0


async def test_idle_proxy_ends_at_once_on_either_signal(stack: AsyncExitStack) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        proxy = await start(stack)
        await ask(proxy, "GET", "/health")
        begin_s = time.monotonic()

        proxy.send_signal(number)

        assert await proxy.wait() == 0
        assert time.monotonic() - begin_s <= 2.0
        assert "Traceback" not in proxy.output


async def test_second_signal_ends_it_without_waiting(stack: AsyncExitStack, upstream: FakeProvider) -> None:
    upstream.stream(["one"], gate=asyncio.Event())
    proxy = await start(stack, {"providers": {"openai": upstream.provider()}})
    await open_call(stack, proxy, STREAM)
    await upstream.wait_for_request()

    proxy.send_signal(signal.SIGTERM)
    await until(lambda: "draining" in proxy.output, "the log tells of draining")
    begin_s = time.monotonic()
    proxy.send_signal(signal.SIGTERM)
    code = await proxy.wait()

    assert (code, time.monotonic() - begin_s <= 2.0) == (1, True)
    assert "Traceback" not in proxy.output


async def test_stream_beyond_the_drain_time_is_cut_and_told(stack: AsyncExitStack, upstream: FakeProvider) -> None:
    upstream.stream(["one", "two"], gate=asyncio.Event())
    proxy = await start(stack, {"providers": {"openai": upstream.provider()}, "server": {"drainTimeout": "300ms"}})
    [(client, response)] = await begin_streams(stack, proxy, 1)
    begin_s = time.monotonic()

    code = await proxy.terminate()
    rest = await client.read_until_closed()

    assert (code, 0.3 <= time.monotonic() - begin_s <= 2.0) == (1, True)
    assert not rest.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in response.body + rest
    assert "Traceback" not in proxy.output


# -- the beginning ---------------------------------------------------------------------------------------------------


async def test_first_answer_comes_soon_after_the_start(
    stack: AsyncExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_s = time.monotonic()
    proxy = await start(stack)
    response = await ask(proxy, "GET", "/health")
    took_s = time.monotonic() - begin_s

    with capsys.disabled():
        print(f" [start to first answer: {took_s:.2f} s, {proxy.rss_bytes() / 1e6:.0f} MB] ", end="")
    assert response.status == 200
    assert took_s <= 10.0


@pytest.mark.parametrize("arguments", [("--port", "http"), ("--port", "70000"), ("--nope",), ("serve-me",)])
async def test_wrong_arguments_end_with_2_and_one_message(arguments: tuple[str, ...]) -> None:
    ended = await proxy_command(*arguments)

    assert (ended.code, ended.output) == (2, "")
    assert "error: " in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize("argument", ["--help", "--version"])
async def test_help_and_version_end_with_0(argument: str) -> None:
    ended = await proxy_command(argument)

    assert (ended.code, ended.errors) == (0, "")
    assert ended.output.startswith(("usage: ", "switchyard "))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {port: -5}", r"proxy\.yaml:1: server\.port: "),
        ("\nsrever: {}", r"proxy\.yaml:2: srever: "),
        ("server: [", r"proxy\.yaml"),
        ("- a list", r"proxy\.yaml"),
        ("maxConcurrency: 1\nmaxConcurrency: 2", r"maxConcurrency"),
        ("providers: {a: {type: openai}}", r"proxy\.yaml:1: providers\.a.*: .*baseUrl"),
        ("providers: {a: {type: nonsense, baseUrl: 'http://x'}}", r"proxy\.yaml:1: providers\.a\.type: "),
        ("admin: {token: '${NO_SUCH_VARIABLE_X}'}", r"proxy\.yaml:1: admin\.token: .*NO_SUCH_VARIABLE_X"),
        ("plugins: [no_such_plugin]", r"no_such_plugin"),
        ("tracing: {enabled: true}", r"proxy\.yaml:1: tracing: "),
        ("server: {host: 0.0.0.0}", r"admin\.token"),
        ("providers: {a: {type: http, baseUrl: 'https://x', tls: {caFile: /no/such/ca.pem}}}", r"/no/such/ca\.pem"),
        ("providers: {a: {type: http, baseUrl: 'https://x', apiKeyFile: /no/such/key}}", r"/no/such/key"),
        ("server: {port: 0}\nstate: {dir: /dev/null/x}", r"/dev/null/x"),
        ("debug: {level: loud}", r"proxy\.yaml:1: debug\.level: "),
    ],
)
async def test_wrong_configuration_ends_with_78_and_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(text)

    ended = await proxy_command("--config", str(path), PROXY_STATE_DIR=str(tmp_path / "state"))

    assert ended.code == 78, ended
    assert ended.output == ""
    assert re.search(message, ended.errors), ended.errors
    assert "Traceback" not in ended.errors
    assert len(ended.errors.splitlines()) <= 2


async def test_every_fault_of_a_configuration_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("server: {port: -5}\nmaxQueue: -1\nnonsense: 1\n")

    ended = await proxy_command("--config", str(path))

    assert ended.code == 78
    assert [f":{line}:" in ended.errors for line in (1, 2, 3)] == [True, True, True]


async def test_missing_configuration_file_is_named() -> None:
    ended = await proxy_command("--config", "/no/such/file.yaml")

    assert (ended.code, "/no/such/file.yaml" in ended.errors, "Traceback" in ended.errors) == (78, True, False)


async def test_state_folder_in_use_ends_the_second_process(stack: AsyncExitStack) -> None:
    first = await start(stack)

    ended = await proxy_command("--config", str(first.config_path), "--port", "0")

    assert (ended.code, ended.output) == (78, "")
    assert "is held by another running proxy" in ended.errors
    assert (await ask(first, "GET", "/readyz")).status == 200


async def test_state_folder_of_a_killed_process_is_free_again(stack: AsyncExitStack) -> None:
    proxy = await start(stack)
    await proxy.kill()

    await proxy.start()

    assert (await ask(proxy, "GET", "/readyz")).status == 200


async def test_port_in_use_ends_the_second_process(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        ended = await proxy_command("--port", port, PROXY_STATE_DIR=str(tmp_path))

    assert ended.code == 78
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in ended.errors
    assert "Traceback" not in ended.errors


# -- full ------------------------------------------------------------------------------------------------------------


async def test_request_beyond_limit_and_queue_is_refused_at_once_with_retry_after(
    stack: AsyncExitStack, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["one"], gate=gate, gate_after=0)
    proxy = await start(stack, {"providers": {"openai": upstream.provider()}, "maxConcurrency": 2, "maxQueue": 1})
    running = [await open_call(stack, proxy, STREAM) for _ in range(2)]
    await upstream.wait_for_request(2)
    queued = await open_call(stack, proxy, STREAM)

    async def one_is_queued() -> bool:
        return (await health(proxy))["requestsQueued"] == 1

    await until(one_is_queued, "one request queued")
    begin_s = time.monotonic()
    refused = await ask(proxy, "POST", CHAT.path, CHAT.body())
    refused_s = time.monotonic() - begin_s
    gate.set()
    answers = [await client.read_response() for client in (*running, queued)]

    assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")  # type: ignore[index]
    assert int(refused.header("retry-after") or "0") >= 1
    assert refused_s <= 0.5
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert upstream.requests_seen == 3


async def test_request_that_waits_too_long_in_the_queue_is_refused(
    stack: AsyncExitStack, upstream: FakeProvider
) -> None:
    upstream.stream(["one"], faults=Faults(never_answer=True))
    config = {"providers": {"openai": upstream.provider()}, "maxConcurrency": 1, "queueTimeout": "200ms"}
    proxy = await start(stack, config)
    await open_call(stack, proxy, STREAM)
    await upstream.wait_for_request()

    refused = await ask(proxy, "POST", CHAT.path, CHAT.body())

    assert (refused.status, refused.header("retry-after") is not None) == (503, True)
    assert upstream.requests_seen == 1


async def test_client_that_leaves_the_queue_leaves_its_place(stack: AsyncExitStack, upstream: FakeProvider) -> None:
    upstream.stream(["one"], faults=Faults(never_answer=True))
    config = {"providers": {"openai": upstream.provider(maxConcurrency=1)}, "maxConcurrency": 2, "maxQueue": 0}
    proxy = await start(stack, config)
    await open_call(stack, proxy, STREAM)
    await upstream.wait_for_request()
    waiting = await open_call(stack, proxy, STREAM)

    async def two_in_flight() -> bool:
        return (await health(proxy))["requestsInFlight"] == 2

    await until(two_in_flight, "two requests in flight")
    waiting.reset()

    async def one_in_flight() -> bool:
        return (await health(proxy))["requestsInFlight"] == 1

    await until(one_in_flight, "one request in flight")
    assert upstream.requests_seen == 1


# -- plugins of one's own --------------------------------------------------------------------------------------------

PLUGIN = '''
"""Refuse requests for models that are too dear for us."""

from pydantic import Field

from proxy import hookimpl
from proxy.errors import Refused
from proxy.exchange import Exchange
from proxy.plugin import Plugin, PluginConfig


class HelloConfig(PluginConfig):
    forbidden: tuple[str, ...] = Field((), description="Models nobody may ask for.")


class HelloPlugin(Plugin[HelloConfig]):
    name = "hello"

    @hookimpl
    def pre_request(self, exchange: Exchange) -> None:
        if exchange.request.model in self.config.forbidden:
            raise Refused(f"{exchange.request.model} is too dear", code="model_forbidden")
'''


async def test_plugin_in_a_users_own_file_works(stack: AsyncExitStack, tmp_path: Path) -> None:
    folder = tmp_path / "my_plugins"
    folder.mkdir()
    (folder / "hello.py").write_text(PLUGIN)
    config = {"plugins": ["debug", "balancer", "metrics", "my_plugins.hello"], "hello": {"forbidden": ["gpt-dear"]}}
    proxy = await start(stack, config, environment=clean_environment(PYTHONPATH=str(tmp_path)))

    refused = await ask(proxy, "POST", CHAT.path, CHAT.body(model="gpt-dear"))
    passed = await ask(proxy, "POST", CHAT.path, CHAT.body())
    shown: Any = (await ask(proxy, "GET", "/config")).json()

    assert (refused.status, orjson.loads(refused.body)["error"]["code"]) == (403, "model_forbidden")
    assert passed.status == 200
    assert shown["hello"]["forbidden"] == ["gpt-dear"]
    assert "hello" in proxy.output


async def test_plugin_that_raises_costs_no_request_and_is_named(stack: AsyncExitStack, tmp_path: Path) -> None:
    broken = PLUGIN.replace(
        "        if exchange.request.model in self.config.forbidden:\n            raise ", "        raise "
    )
    broken = re.sub(r"raise Refused\(.*\)", 'raise RuntimeError("a defect")', broken)
    (tmp_path / "broken_hello.py").write_text(broken)
    proxy = await start(stack, {"plugins": ["broken_hello"]}, environment=clean_environment(PYTHONPATH=str(tmp_path)))

    response = await ask(proxy, "POST", CHAT.path, CHAT.body())

    assert response.status == 200
    await until(lambda: "hello" in proxy.output and "a defect" in proxy.output, "the log names plugin and defect")


async def test_signal_during_a_restart_ends_the_process(stack: AsyncExitStack, upstream: FakeProvider) -> None:
    upstream.stream(["one", " two"], gate=asyncio.Event())
    proxy = await start(stack, {"providers": {"openai": upstream.provider()}})
    await begin_streams(stack, proxy, 1)
    await ask(proxy, "PATCH", "/config", b'{"server": {"port": 1}}')

    restarting: Any = (await ask(proxy, "POST", "/deployments?restart=true")).json()
    await until(lambda: "draining" in proxy.output, "the log tells of draining")
    proxy.send_signal(signal.SIGTERM)
    code = await proxy.wait()

    assert (restarting["restarting"], code, proxy.output.count("listens on")) == (True, 1, 1)
