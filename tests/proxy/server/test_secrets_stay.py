"""No call makes a secret visible, nor tells what a reference or an id stands for (F9)."""

from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyHarness
from tests.proxy.server.test_config_routes import call

OF_FILE = "sk-of-the-file-3e9b117f"
OF_VARIABLE = "sk-of-a-variable-90ad3c"
UNNAMED = "wJalrUnnamedSecret/xyz"
ENVIRON = {"OPENAI_API_KEY": OF_VARIABLE, "UNNAMED": UNNAMED, "PLUGIN": "antigravity"}


async def start(upstream: FakeProvider, **sections: Any) -> ProxyHarness:
    proxy = ProxyHarness(environ=ENVIRON)
    providers = {
        "a": upstream.provider(models=["m"], apiKey=OF_FILE),
        "b": upstream.provider(models=["n"], apiKey="${OPENAI_API_KEY}"),
        "c": {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": "${NO_SUCH:-sk-default-5c1d77ab}"},
    }
    await proxy.start(providers=providers, **sections)
    return proxy


def bodies(ids: dict[str, Any]) -> list[Any]:
    a = ids["a"]["apiKey"]
    return [
        {"state": {"dir": "${UNNAMED}"}},
        {"plugins": ["${UNNAMED}"]},
        {"native": {"defaultModel": "${UNNAMED}"}},
        {"maxConcurrency": "${OPENAI_API_KEY}"},
        {"maxConcurrency": a},
        {"log": {"level": "${OPENAI_API_KEY}"}},
        {"log": {"level": a}},
        {"models": {"x": ["${OPENAI_API_KEY}"]}},
        {"models": {"x": [a, "${OPENAI_API_KEY}"]}},
        {"native": {"defaultModel": a}},
        {"native": {"defaultModel": ids["c"]["apiKey"]}},
        {"providers": {"b": {"models": [a, "${OPENAI_API_KEY}"]}}},
        {"providers": {"b": {"baseUrl": "${OPENAI_API_KEY}"}}},
        {"providers": {"b": {"headers": {"X-Ok": "${OPENAI_API_KEY}\n"}}}},
        {"server": {"allowedHosts": ["${OPENAI_API_KEY}"], "port": a}},
        {"plugins": ["debug", "${OPENAI_API_KEY}"]},
        {"debug": {"level": "${OPENAI_API_KEY}", "sampleRate": a}},
    ]


@pytest.mark.parametrize("token", [None, "t" * 20])
async def test_what_a_reference_or_an_id_stands_for_is_never_told(upstream: FakeProvider, token: str | None) -> None:
    async with await start(upstream, admin={"token": token or ""}) as proxy:
        trusted = {"Authorization": f"Bearer {token}"} if token else {}
        shown: Any = (await call(proxy, "GET", "/config", **trusted)).json()
        seen = []
        for body in bodies(shown["providers"]):
            for query in ("?dryRun=true", ""):
                answer = await call(proxy, "PATCH", f"/config{query}", body, **trusted)
                seen.append((answer.status, answer.body))
        paths = ("config", "deployments/1", "config/issues", "providers/status", "health", "v1/models")
        seen += [(0, (await call(proxy, "GET", f"/{path}", **trusted)).body) for path in paths]
        stored = b"".join(path.read_bytes() for path in (proxy.state_path / "revisions").iterdir())
        events = orjson.dumps([event.message for event in proxy.events.recent()])

    text = b"".join([*(body for _, body in seen), stored, events]).decode()
    for secret in (OF_FILE, OF_VARIABLE, "sk-default-5c1d77ab", UNNAMED, "antigravity"):
        if not (token and secret in (OF_VARIABLE, UNNAMED)):  # who has the token may use variables where they like
            assert secret not in text
            assert secret[:12] not in text
    if token is None:
        assert {status for status, _ in seen} <= {0, 422}


async def test_fault_shows_the_reference_that_was_written(upstream: FakeProvider) -> None:
    async with await start(upstream) as proxy:
        provider = {"providers": {"b": {"weight": "${OPENAI_API_KEY}", "apiKey": "${OPENAI_API_KEY}"}}}
        answer = await call(proxy, "PATCH", "/config", provider)

    document: Any = answer.json()
    assert answer.status == 422
    assert OF_VARIABLE not in answer.body.decode()
    assert document["errors"][0]["path"] == "providers.b.weight"
    assert "OPENAI_API_KEY" in document["errors"][0]["message"]


async def test_id_may_move_to_where_secrets_are_hidden(upstream: FakeProvider) -> None:
    async with await start(upstream) as proxy:
        shown: Any = (await call(proxy, "GET", "/config/providers/a")).json()

        moved = await call(proxy, "PUT", "/config/providers/renamed", shown)
        await call(proxy, "DELETE", "/config/providers/a")
        await proxy.chat("hello", model="m")

    assert moved.status == 200
    assert upstream.requests[-1].header("authorization") == f"Bearer {OF_FILE}"


async def test_secret_of_a_plugin_that_is_no_longer_listed_stays_hidden(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=["debug", "tests.proxy.reload.vault"], vault={"dsn": OF_FILE})

    answer = await call(proxy, "PATCH", "/config", {"plugins": ["debug"], "vault": None})
    await call(proxy, "PATCH", "/config", {"maxQueue": 7})
    await proxy.restart()
    await call(proxy, "PATCH", "/config", {"maxQueue": 8})
    stored = b"".join(path.read_bytes() for path in (proxy.state_path / "revisions").iterdir())

    assert answer.status == 200
    assert OF_FILE.encode() not in stored + answer.body


async def test_secret_that_waits_to_be_given_back_to_a_plugin_that_the_file_dropped_stays_hidden() -> None:
    async with ProxyHarness(has_file=True) as proxy:
        await proxy.start(plugins=["debug", "tests.proxy.reload.vault"])
        await call(proxy, "PATCH", "/config", {"vault": {"dsn": OF_FILE}})
        await call(proxy, "PATCH", "/config?ttl=1h", {"plugins": ["debug"], "vault": None})
        proxy.write(plugins=["debug", "balancer"])

        await proxy.restart()
        await call(proxy, "PATCH", "/config", {"maxQueue": 7})
        waits = [one.inverse for one in proxy.app.configuration.standing.pending]
        stored = b"".join(path.read_bytes() for path in (proxy.state_path / "revisions").iterdir())

    assert waits == [{"vault": {"dsn": OF_FILE}}]
    assert OF_FILE.encode() not in stored


async def test_secrets_that_no_revision_names_are_forgotten(proxy: ProxyHarness) -> None:
    await proxy.start(changes={"keep": 2})
    provider = {"type": "http", "baseUrl": "http://127.0.0.1:9"}
    first: Any = {}
    for number in range(8):
        await call(proxy, "PATCH", "/config", {"providers": {"x": {**provider, "apiKey": f"sk-rotated-{number:06}"}}})
        first = first or (await call(proxy, "GET", "/config/providers/x/apiKey")).json()

    answer = await call(proxy, "PATCH", "/config", {"providers": {"x": {"apiKey": first}}})

    assert answer.status == 422
    assert len(proxy.app.configuration._store.known) <= 3


async def test_key_of_a_route_is_never_shown_and_comes_back_whole(upstream: FakeProvider) -> None:
    async with FakeProvider() as other, ProxyHarness() as proxy:
        route = {"when": {"key": OF_FILE}, "use": ["b"]}
        providers = {"a": upstream.provider(), "b": other.provider(priority=1)}
        await proxy.start(providers=providers, balancer={"routes": [route]})
        shown: Any = (await call(proxy, "GET", "/config/balancer")).json()

        moved = {"routes": [{"use": ["nobody"]}, *shown["routes"]]}
        answers = [
            await call(proxy, "GET", "/config"),
            await call(proxy, "PATCH", "/config", {"balancer": moved}),
            await call(proxy, "PATCH", "/config", {"balancer": {"routes": [{**route, "uze": []}]}}),
            await call(
                proxy, "PATCH", "/config", {"balancer": {"routes": [{"use": [shown["routes"][0]["when"]["key"]]}]}}
            ),
            await call(
                proxy,
                "PATCH",
                "/config",
                {"balancer": {"routes": [{**route, "when": {**route["when"], "minSize": 2, "maxSize": 1}}]}},
            ),
            *[await call(proxy, "GET", f"/{path}") for path in ("config", "config/issues", "deployments/2", "plugins")],
        ]
        await proxy.chat("hello", headers={"Authorization": f"Bearer {OF_FILE}"})
        await proxy.chat("hello", headers={"Authorization": "Bearer another"})
        stored = b"".join(path.read_bytes() for path in (proxy.state_path / "revisions").iterdir())
        events = orjson.dumps([event.message for event in proxy.events.recent()])

    assert shown["routes"][0]["when"]["key"].keys() == {"$secret"}
    assert [answer.status for answer in answers] == [200, 200, 422, 422, 422, 200, 200, 200, 200]
    assert OF_FILE[:12].encode() not in b"".join([*(answer.body for answer in answers), stored, events])
    assert (upstream.requests_seen, other.requests_seen) == (1, 1)
