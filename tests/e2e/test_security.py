"""Who gets in, where requests can go, and what is never told: guards, smuggling, destinations, secrets."""

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio

from proxy.config.models import BUILT_IN_PLUGINS
from proxy.testing import FakeProvider, ProxyProcess
from tests.e2e.rig import CALLS, KEYS, STREAMS, ask, clean_environment, relay_config, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN = "admin-token-8d1f53b2c7"
PUBLIC = ("/health", "/livez", "/readyz")
GUARDED = (
    "/config",
    "/providers/status",
    "/metrics",
    "/plugins",
    "/plugins/debug/enable",
    "/plugins/debug/disable",
    "/keys",
    "/keys/0123456789/rotate",
)
"""Every route that is not public; `test_every_admin_route_is_in_these_tests` keeps it whole."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
CHAT = CALLS["openai"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def locked(fakes: tuple[FakeProvider, FakeProvider]) -> AsyncIterator[ProxyProcess]:
    """A proxy with an admin token."""
    config = {**relay_config(*fakes), "admin": {"token": TOKEN}}
    async with ProxyProcess(config, environment=clean_environment()) as process:
        yield process


@pytest.fixture(params=GUARDED)
def guarded(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def every_method(proxy: ProxyProcess, path: str, headers: dict[str, str]) -> dict[str, int]:
    """The status of a path under every method, each on a connection of its own."""
    found = await asyncio.gather(*(ask(proxy, method, path, headers=headers) for method in METHODS))
    assert not any(response.header("access-control-allow-origin") for response in found)
    return dict(zip(METHODS, (response.status for response in found), strict=True))


# -- the admin guard (F1, F4, F5, F6) --------------------------------------------------------------------------------


async def test_every_admin_route_is_in_these_tests(default_proxy: ProxyProcess) -> None:
    plugins: Any = (await ask(default_proxy, "GET", "/plugins")).json()
    unknown = await ask(default_proxy, "GET", "/openapi.json")

    assert {plugin["name"] for plugin in plugins["plugins"]} == set(BUILT_IN_PLUGINS)
    assert unknown.status == 404  # once routes are listed there, read GUARDED from it


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \xff\xfe"},
        {"Authorization": "Bearer "},
        {"x-api-key": TOKEN},
    ],
)
async def test_admin_routes_want_the_token_under_every_method(
    locked: ProxyProcess, guarded: str, headers: dict[str, str]
) -> None:
    statuses = await every_method(locked, guarded, headers)

    assert set(statuses.values()) == {401}, statuses


async def test_admin_token_in_the_query_opens_nothing(locked: ProxyProcess, guarded: str) -> None:
    response = await ask(locked, "GET", f"{guarded}?token={TOKEN}&key={TOKEN}&access_token={TOKEN}")

    assert (response.status, response.header("www-authenticate")) == (401, "Bearer")


async def test_admin_token_opens_every_route(locked: ProxyProcess) -> None:
    for path in ("/config", "/providers/status", "/metrics", "/plugins"):
        response = await ask(locked, "GET", path, headers={"Authorization": f"bearer {TOKEN}", "Host": "any.test"})
        assert response.status == 200, path


async def test_odd_spellings_of_an_admin_path_open_nothing(locked: ProxyProcess, guarded: str) -> None:
    name = guarded[1:]
    for path in (
        f"{guarded}/",
        f"//{name}",
        f"/./{name}",
        f"/v1/../{name}",
        f"/%2e%2e/{name}",
        f"/{name[0].upper()}{name[1:]}",
        f"/%{ord(name[0]):02x}{name[1:]}",
        f"{guarded};x=1",
        f"{guarded}%00",
        f"{guarded}%2f",
        f"/proxy/..{guarded}",
        f"/proxy/rerank/..{guarded}",
        f"/proxy/rerank/%2e%2e%2f..{guarded}",
        f"\\{name}",
    ):
        response = await ask(locked, "GET", path)
        assert response.status in (400, 401, 404), (path, response.status, response.text)


async def test_public_health_tells_strangers_only_the_four_things(locked: ProxyProcess) -> None:
    stranger = await ask(locked, "GET", "/health")
    operator = await ask(locked, "GET", "/health", headers={"Authorization": f"Bearer {TOKEN}"})

    told: Any = stranger.json()
    assert set(told) == {"status", "version", "uptime", "memoryUsage"}
    assert "requestsInFlight" in operator.text
    for path in PUBLIC:
        response = await ask(locked, "GET", path)
        assert (response.status, (response.header("server") or "switchyard")) == (200, "switchyard")


BROWSER_MARKS = [
    {"Origin": "https://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1.evil.test"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site", "Sec-Fetch-Mode": "no-cors"},
]
FOREIGN_HOSTS = [
    "evil.test",
    "127.0.0.1.evil.test",
    "localhost.evil.test",
    "evil.test:8080",
    "0.0.0.0",
    "192.168.1.1",
    "evil.test@127.0.0.1",
    "127.0.0.1@evil.test",
    "evil.test#127.0.0.1",
    "evil.test\\.localhost",
    "",
]


@pytest.mark.parametrize("headers", BROWSER_MARKS)
async def test_web_pages_reach_no_admin_route(
    default_proxy: ProxyProcess, guarded: str, headers: dict[str, str]
) -> None:
    statuses = await every_method(default_proxy, guarded, headers)

    assert set(statuses.values()) == {403}, statuses


@pytest.mark.parametrize(
    "headers",
    [
        {"Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Host": "localhost"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
    ],
)
async def test_forwarded_and_prefetched_calls_reach_no_admin_route(
    default_proxy: ProxyProcess, guarded: str, headers: dict[str, str]
) -> None:
    statuses = await every_method(default_proxy, guarded, headers)

    assert set(statuses.values()) == {403}, statuses


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_foreign_hosts_reach_neither_side(
    default_proxy: ProxyProcess, relay: ProxyProcess, upstream: FakeProvider, guarded: str, host: str
) -> None:
    statuses = await every_method(default_proxy, guarded, {"Host": host})
    asked = await ask(relay, "POST", CHAT.path, CHAT.body(), {"Host": host})

    assert set(statuses.values()) <= {400, 403}, statuses
    assert asked.status in (400, 403)
    assert upstream.requests_seen == 0


@pytest.mark.parametrize("headers", BROWSER_MARKS)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_web_pages_spend_no_key(
    relay: ProxyProcess, upstream: FakeProvider, headers: dict[str, str], content_type: str
) -> None:
    response = await ask(relay, "POST", CHAT.path, CHAT.body(), {**headers, "Content-Type": content_type})

    assert response.status == 403
    assert response.header("access-control-allow-origin") is None
    assert upstream.requests_seen == 0


@pytest.mark.parametrize("path", [CHAT.path, "/", "/proxy/rerank/x", "/config", "/health"])
async def test_preflight_allows_nothing(relay: ProxyProcess, path: str) -> None:
    headers = {"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}

    response = await ask(relay, "OPTIONS", path, headers=headers)

    assert not [name for name, _ in response.headers if name.lower().startswith("access-control-")]
    assert response.status in (403, 405)


# -- destinations (F7) -----------------------------------------------------------------------------------------------


async def test_nothing_a_client_sends_chooses_the_destination(relay: ProxyProcess, upstream: FakeProvider) -> None:
    async with FakeProvider() as recorder:
        url, port = recorder.url, recorder.port
        keys = dict.fromkeys(("api_base", "base_url", "baseUrl", "url", "endpoint", "host", "proxy"), url)
        headers = {
            "X-Forwarded-Host": f"127.0.0.1:{port}",
            "X-Original-URL": url,
            "X-Rewrite-URL": url,
            "X-Upstream": url,
            "Forwarded": f"host=127.0.0.1:{port}",
            "Destination": url,
        }
        for target, body, extra in (
            (CHAT.path, CHAT.body(**keys), headers),
            (CHAT.path, CHAT.body(model=f"{url}/v1"), {}),
            (CHAT.path, CHAT.body(model=f"gpt-@127.0.0.1:{port}/../x"), {}),
            (f"/v1beta/models/gemini-{quote(url, safe='')}:generateContent", CALLS["gemini"].body(), {}),
            (f"/proxy/{quote(url, safe='')}/x", b"{}", {}),
            (f"/proxy/rerank/{url}", b"{}", {}),
            (f"/proxy/rerank//127.0.0.1:{port}/x", b"{}", {}),
            (f"/proxy/rerank/@127.0.0.1:{port}/x", b"{}", {}),
            (f"{url}/v1/chat/completions", CHAT.body(), {}),
            (f"//127.0.0.1:{port}/v1/chat/completions", CHAT.body(), {}),
            (f"/v1/@127.0.0.1:{port}/", b"{}", {}),
        ):
            await ask(relay, "POST", target, body, extra)
        connected = await ask(relay, "CONNECT", f"127.0.0.1:{port}")

        assert connected.status >= 400
        assert recorder.connections_made == 0


async def test_redirect_is_passed_on_and_not_followed(relay: ProxyProcess, upstream: FakeProvider) -> None:
    async with FakeProvider() as recorder:
        upstream.reply_status(307, b"", {"Location": f"{recorder.url}/steal"})

        response = await ask(relay, "POST", CHAT.path, CHAT.body())

        assert response.status == 307
        assert recorder.connections_made == 0


# -- secrets (F9) ----------------------------------------------------------------------------------------------------

CANARIES = {
    "config": "sk-canary/cfg+4f9a1b7c3d5e",
    "env": "sk-canary/env+8b2d6f0e1a3c",
    "header": "sk-canary/hdr+1c7e9d4b2f6a",
    "admin": "sk-canary/adm+6a0f3e8d5b1c",
    "client": "sk-canary/cli+9e5b1d7f3a0c",
    "query": "sk-canary/qry+3d8c6a2e0f4b",
    "file": "sk-canary-fil-7a1f5c9e2d0b",
}


def traces_of(secret: str) -> set[str]:
    """How a secret could stand in an output: plain, escaped, in Base64 at every offset, its last 8 characters."""
    found = {secret, quote(secret, safe=""), quote(secret), secret[-8:]}
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + secret.encode()).decode()
        found.add(encoded[4:-4])
    return found


def canary_config(upstream: FakeProvider, key_file: Path) -> dict[str, Any]:
    """A key in every place that a configuration has for one, and everything logged that can be."""
    key_file.write_text(CANARIES["file"])
    header = {"X-Secret-Token": CANARIES["header"]}
    return {
        "admin": {"token": CANARIES["admin"]},
        "log": {"level": "debug"},
        "debug": {"enabled": True, "level": "debug", "replyBodies": True},
        "providers": {
            "plain": upstream.provider(models=["gpt-*"], apiKey=CANARIES["config"]),
            "env": upstream.provider("anthropic", models=["claude-*"], apiKey="${CANARY_KEY}"),
            "file": {**upstream.provider("gemini", models=["gemini-*"], apiKey=""), "apiKeyFile": str(key_file)},
            "open": upstream.provider("ollama", models=["llama*"], apiKey=""),
            "rerank": {"type": "http", "baseUrl": f"{upstream.url}/rerank", "headers": header},
        },
    }


async def provoke(proxy: ProxyProcess, upstream: FakeProvider) -> list[str]:
    """Make the proxy talk: refused keys, broken answers, wrong requests, every admin route. Returns all it said."""
    told: list[str] = []

    async def note(method: str, target: str, body: bytes | None = None, key: str = CANARIES["client"]) -> None:
        separator = "&" if "?" in target else "?"
        query = f"{separator}key={quote(CANARIES['query'], safe='')}"
        headers = {"Authorization": f"Bearer {key}", "X-Api-Key": key}
        response = await ask(proxy, method, target + query, body, headers)
        told.append(f"{response.status} {response.headers} {response.body.decode('latin-1')}")

    echoed: Any = {"error": {"message": f"bad keys {' '.join(CANARIES.values())}"}}
    for status in (401, 403):  # the vendor repeats the key that it refuses
        upstream.reply_status(status, echoed, {"WWW-Authenticate": f"Bearer {CANARIES['config']}"})
        for call in (CALLS["openai"], CALLS["anthropic"], CALLS["gemini"], STREAMS["openai"]):
            await note("POST", call.path, call.body())
        await note("POST", "/", b'{"prompt": "x", "model": "gpt-4o"}')
        await note("POST", "/proxy/plain/x", b"{}")
    upstream.reply_raw(f"HTTP/9.9 {CANARIES['config']}\r\nX: {CANARIES['env']}\r\n\r\n".encode())
    await note("POST", CHAT.path, CHAT.body())
    upstream.reply("fine")
    await note("POST", CHAT.path, CHAT.body())
    await note("POST", CHAT.path, b"{nonsense")
    await note("GET", "/nowhere")
    history = ("/config/issues", "/config/validate", "/config/schema", "/deployments", "/deployments/1")
    for path in ("/config", "/metrics", "/providers/status", "/plugins", "/health", *history):
        await note("GET", path)
        await note("GET", path, key=CANARIES["admin"])
    return told


async def test_no_secret_shows_in_any_output(upstream: FakeProvider, tmp_path: Path) -> None:
    config = canary_config(upstream, tmp_path / "key")
    async with ProxyProcess(config, environment=clean_environment(CANARY_KEY=CANARIES["env"])) as proxy:
        texts = await provoke(proxy, upstream)
        await until(lambda: proxy.output.count("\n") > 20, "a log of all that")
        assert await proxy.terminate() == 0
        texts.append(proxy.output)
        files = {path for path in proxy.state_path.rglob("*") if path.is_file()}
        # the one file that may hold them: rollback and restore need what the export does not show
        kept = {path for path in files if path.name == "secrets.json"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
        texts += [path.read_text("latin-1") for path in files - kept]

    found = {
        f"{name}: {trace} in …{text[max(0, text.index(trace) - 200) : text.index(trace) + 60]}"
        for name, secret in CANARIES.items()
        for trace in traces_of(secret)
        for text in texts
        if trace in text
    }
    assert not found, "\n".join(sorted(found))
    assert '"providers"' in "".join(texts)


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_key_that_a_vendor_repeats_in_an_error_is_not_told_in_our_words(
    relay: ProxyProcess, upstream: FakeProvider, is_streaming: bool
) -> None:
    upstream.reply_status(400, {"error": {"message": f"bad key {KEYS['openai']}"}})
    body = orjson.dumps({"prompt": "x", "model": "gpt-4o", "stream": is_streaming})

    response = await ask(relay, "POST", "/", body)

    assert response.status == 400
    assert KEYS["openai"] not in response.text


async def test_configuration_shows_references_and_ids_in_place_of_secrets(locked: ProxyProcess) -> None:
    response = await ask(locked, "GET", "/config", headers={"Authorization": f"Bearer {TOKEN}"})

    document = orjson.loads(response.body)
    assert list(document["admin"]["token"]) == ["$secret"]
    assert list(document["providers"]["openai"]["apiKey"]) == ["$secret"]
    assert TOKEN not in response.text
