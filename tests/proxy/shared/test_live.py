"""The store in the running proxy: given to plugins, changed live, reported, and never in a request's way."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.testing import ProxyHarness
from tests.proxy.reload.rig import health, kinds
from tests.proxy.server.test_config_routes import call, errors
from tests.proxy.shared.asking import AskingPlugin
from tests.redis_server import RedisServer, free_port, short_folder

PLUGINS = ["tests.proxy.shared.asking", "metrics"]
SOON = {"cooldown": 0.05, "maxCooldown": 0.1}


@pytest.fixture(autouse=True)
def answers() -> Iterator[list[object]]:
    AskingPlugin.answers.clear()
    yield AskingPlugin.answers
    AskingPlugin.answers.clear()


async def store_is(proxy: ProxyHarness, **settings: Any) -> None:
    response = await call(proxy, "PATCH", "/config", {"store": settings})
    assert response.status == 200, response.body


async def until(proxy: ProxyHarness, kind: str) -> None:
    deadline_s = time.monotonic() + 10
    while kind not in kinds(proxy):
        assert time.monotonic() < deadline_s, kinds(proxy)
        await proxy.request("GET", "/livez")


async def test_plugin_asks_the_store_that_is_configured(
    proxy: ProxyHarness, redis_server: RedisServer, answers: list[object]
) -> None:
    await proxy.start(plugins=PLUGINS, store={"url": redis_server.url, "prefix": "mine"})

    await proxy.chat("one")
    await proxy.chat("two")

    assert answers == [1, 2]
    assert redis_server.ask("GET", "mine:n") == "$1"
    assert 'proxy_store_calls_total{outcome="ok"} 2.0' in (await proxy.request("GET", "/metrics")).text
    assert "proxy_store_state 0.0" in (await proxy.request("GET", "/metrics")).text


async def test_without_a_store_there_is_none_and_no_series_of_it(proxy: ProxyHarness, answers: list[object]) -> None:
    await proxy.start(plugins=PLUGINS)

    await proxy.chat("one")

    assert answers == ["none"]
    assert "store" not in (await proxy.request("GET", "/metrics")).text


async def test_store_comes_changes_and_goes_while_the_proxy_runs(
    proxy: ProxyHarness, redis_server: RedisServer, own_redis: RedisServer, answers: list[object]
) -> None:
    await proxy.start(plugins=PLUGINS)

    for url in (redis_server.url, own_redis.url, redis_server.unix_url, "none"):
        await store_is(proxy, url=url)
        await proxy.chat("hello")

    assert answers == [1, 1, 2, "none"]
    assert "store_down" not in kinds(proxy)


async def test_connections_to_the_store_before_are_closed(
    proxy: ProxyHarness, own_redis: RedisServer, redis_server: RedisServer
) -> None:
    await proxy.start(plugins=PLUGINS, store={"url": own_redis.url})
    await proxy.chat("hello")

    await store_is(proxy, url=redis_server.url)

    deadline_s = time.monotonic() + 10
    while own_redis.clients() > 0:
        assert time.monotonic() < deadline_s
        await proxy.request("GET", "/livez")


async def test_change_of_something_else_leaves_the_store_as_it_is(
    proxy: ProxyHarness, redis_server: RedisServer
) -> None:
    await proxy.start(plugins=PLUGINS, store={"url": redis_server.url})
    store = proxy.app.stores.current()

    await call(proxy, "PATCH", "/config", {"maxConcurrency": 7})

    assert proxy.app.stores.current() is store


async def test_store_that_fails_is_told_once_and_shown_and_requests_go_on(
    proxy: ProxyHarness, own_redis: RedisServer, answers: list[object]
) -> None:
    await proxy.start(plugins=PLUGINS, store={"url": own_redis.url, "breaker": SOON})
    own_redis.freeze()

    replies = [await proxy.chat("hello") for _ in range(20)]
    while_down = await health(proxy)

    assert {reply.status for reply in replies} == {200}
    assert set(answers) == {"store_unavailable"}
    assert kinds(proxy).count("store_down") == 1
    assert while_down["status"] == "degraded"
    assert any("store.url" in problem for problem in while_down["problems"])
    assert "proxy_store_state 1.0" in (await proxy.request("GET", "/metrics")).text
    own_redis.thaw()
    await until(proxy, "store_up")
    assert (await health(proxy))["problems"] == []


@pytest.mark.parametrize("limit", ["100ms", "5s"], ids=["below the time of a hook", "above it"])
async def test_store_is_left_alone_without_a_wait_for_requests_once_its_circuit_is_open(
    proxy: ProxyHarness, own_redis: RedisServer, answers: list[object], limit: str
) -> None:
    await proxy.start(plugins=PLUGINS, store={"url": own_redis.url, "timeout": limit, "breaker": {"cooldown": 60}})
    await proxy.chat("hello")
    own_redis.freeze()
    for _ in range(3):
        await proxy.chat("pays")

    began_s = time.monotonic()
    for _ in range(50):
        await proxy.chat("pays nothing")

    assert time.monotonic() - began_s < 50 * 0.1
    assert kinds(proxy).count("store_down") == 1
    assert "plugin_disabled" not in kinds(proxy)
    assert answers[-50:] == ["store_unavailable"] * 50


async def test_password_is_nowhere_to_be_seen(proxy: ProxyHarness, own_redis: RedisServer) -> None:
    own_redis.stop()
    url = own_redis.url.replace("//", "//user:canary-77@")

    await proxy.start(plugins=PLUGINS, store={"url": url})
    await until(proxy, "store_down")
    shown = [(await proxy.request("GET", path)).text for path in ("/config", "/health", "/config/issues", "/metrics")]

    assert "canary-77" not in "".join([*shown, *map(str, proxy.events.recent())])


async def test_url_that_is_none_is_refused_and_not_repeated(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)

    refused = await call(proxy, "PATCH", "/config", {"store": {"url": "redis://:canary-77/x@h"}})

    assert refused.status == 422
    assert [path for path, _ in errors(refused)] == ["store.url"]
    assert "canary-77" not in refused.text


async def test_ca_file_that_cannot_be_read_is_refused(proxy: ProxyHarness, tmp_path: Path) -> None:
    await proxy.start(plugins=PLUGINS)
    settings = {"url": "rediss://redis.example", "caFile": str(tmp_path / "missing.pem")}

    refused = await call(proxy, "PATCH", "/config", {"store": settings})

    assert refused.status == 422
    assert [path for path, _ in errors(refused)] == ["store.caFile"]


async def test_store_is_asked_by_tls_and_only_if_its_certificate_is_good(
    proxy: ProxyHarness, tmp_path: Path, answers: list[object]
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / name) for name in ("key", "cert", "ca")}
    certificate.private_key_pem.write_to_path(files["key"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    authority.cert_pem.write_to_path(files["ca"])
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", files["cert"], "--tls-key-file", files["key"])
    with short_folder() as folder:
        server = RedisServer(Path(folder), *options, "--tls-ca-cert-file", files["ca"], "--tls-auth-clients", "no")
        server.start()
        try:
            url = f"rediss://127.0.0.1:{port}"
            await proxy.start(plugins=PLUGINS, store={"url": url, "caFile": files["ca"], "timeout": 2})
            await proxy.chat("hello")
            trustme.CA().cert_pem.write_to_path(files["ca"])
            await store_is(proxy, timeout=3)  # read anew with the settings
            await until(proxy, "store_down")
        finally:
            server.stop()

    (event,) = (event for event in proxy.events.recent() if event.kind == "store_down")
    assert answers == [1]
    assert "certificate" in event.message.lower()


def test_library_is_not_loaded_unless_it_is_needed() -> None:
    code = "import proxy.app, sys; sys.exit('redis' in sys.modules or 'proxy.shared.client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
