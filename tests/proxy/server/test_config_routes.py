"""Reading and changing the configuration over HTTP: what each call does, what bad input gets (FAULTS D5, D6, D13)."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from proxy.config.patch import difference
from proxy.testing import FakeProvider, ProxyHarness, RawClient, RawResponse, encode_request
from tests.e2e.rig import until

CANARY = "sk-canary-55d0a1f7b3"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


@pytest.fixture
async def running(proxy: ProxyHarness) -> ProxyHarness:
    await proxy.start()
    return proxy


async def call(proxy: ProxyHarness, method: str, path: str, body: Any = None, **headers: str) -> RawResponse:
    content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
    return await proxy.request(method, path, content, {name.replace("_", "-"): text for name, text in headers.items()})


async def value(proxy: ProxyHarness, path: str) -> Any:
    return (await call(proxy, "GET", f"/config/{path}")).json()


def overlay_of(proxy: ProxyHarness) -> Any:
    """The live changes over the file, as a merge patch."""
    standing = proxy.app.configuration.standing
    return difference(standing.base, standing.document)


def errors(response: RawResponse) -> list[tuple[str, Any]]:
    document: Any = response.json()
    assert response.header("content-type") == "application/problem+json"
    return [(error["path"], error["got"]) for error in document["errors"]]


# -- the users' own calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "body", "path", "new"),
    [
        ("POST", {"enableFallbackProviders": False}, "enableFallbackProviders", False),
        ("PATCH", {"maxConcurrency": 25}, "maxConcurrency", 25),
        ("PATCH", {"debug": {"enabled": True, "level": "debug"}}, "debug/level", "debug"),
    ],
)
@pytest.mark.parametrize("headers", [{}, FORM, {"Content-Type": "application/json"}], ids=["bare", "curl -d", "json"])
async def test_call_of_the_guide_changes_the_setting(
    running: ProxyHarness, method: str, body: Any, path: str, new: Any, headers: dict[str, str]
) -> None:
    answer = await call(running, method, "/config", body, **headers)

    changed: Any = answer.json()
    assert answer.status == 200
    assert (changed["revision"], changed["changed"], changed["dryRun"]) == (2, True, False)
    assert path.replace("/", ".") in [one["path"] for one in changed["diff"]]
    assert await value(running, path) == new


@pytest.mark.parametrize(
    "body", [{"tracing": {"enabled": True}}, {"myPlugin": {"size": 50}}, {"rateLimits": {"perHour": 2000}}]
)
async def test_section_that_is_not_loaded_is_named(running: ProxyHarness, body: Any) -> None:
    answer = await call(running, "PATCH", "/config", body)

    assert (answer.status, errors(answer)) == (422, [(next(iter(body)), None)])
    assert "loaded" in answer.body.decode()


async def test_limit_is_in_force_for_the_next_request(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"maxConcurrency": 7, "maxQueue": 3})

    health: Any = (await call(running, "GET", "/health")).json()

    assert (health["maxConcurrency"], health["revision"]) == (7, 2)


# -- paths -----------------------------------------------------------------------------------------------------------


async def test_part_is_read_merged_replaced_and_taken_away(running: ProxyHarness) -> None:
    merged = await call(running, "PATCH", "/config/server", {"headerTimeout": "3s"})
    replaced = await call(running, "PUT", "/config/models/fast", ["echo/a"])
    scalar = await call(running, "PUT", "/config/server/writeTimeout", b'"9s"')
    seen = [await value(running, path) for path in ("server/headerTimeout", "models/fast/0", "server/writeTimeout")]
    deleted = await call(running, "DELETE", "/config/server/headerTimeout")

    assert [one.status for one in (merged, replaced, scalar, deleted)] == [200] * 4
    assert seen == ["3s", "echo/a", "9s"]
    assert await value(running, "server/headerTimeout") == 10
    assert await value(running, "server/writeTimeout") == "9s"


async def test_name_with_odd_characters_is_reached_when_they_are_encoded(running: ProxyHarness) -> None:
    await call(running, "PUT", "/config/models/a%2Fb%20c", ["echo/x"])

    assert await value(running, "models/a%2Fb%20c") == ["echo/x"]
    assert await value(running, "models") == {"a/b c": ["echo/x"]}


async def test_path_that_is_not_there_names_the_nearest(running: ProxyHarness) -> None:
    answers = [await call(running, method, "/config/server/headerTimeuot") for method in ("GET", "DELETE")]

    assert [one.status for one in answers] == [404, 404]
    assert all("did you mean headerTimeout?" in one.body.decode() for one in answers)


async def test_part_merges_null_as_deletion_and_replaces_all_below(running: ProxyHarness) -> None:
    await call(running, "PUT", "/config/models", {"a": ["echo/1"], "b": ["echo/2"]})
    await call(running, "PATCH", "/config/models", {"a": None, "c": ["echo/3"]})
    after_merge = await value(running, "models")

    await call(running, "PUT", "/config/models", {"d": ["echo/4"]})

    assert after_merge == {"b": ["echo/2"], "c": ["echo/3"]}
    assert await value(running, "models") == {"d": ["echo/4"]}


async def test_default_provider_stays_when_another_one_is_merged_in(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"providers": {"x": {"type": "http", "baseUrl": "http://127.0.0.1:9"}}})

    assert list(await value(running, "providers")) == ["echo", "x"]


# -- JSON Patch ------------------------------------------------------------------------------------------------------


async def test_json_patch_is_applied_whole(running: ProxyHarness) -> None:
    operations = [
        {"op": "test", "path": "/maxConcurrency", "value": 100},
        {"op": "replace", "path": "/maxConcurrency", "value": 5},
        {"op": "add", "path": "/models/fast", "value": ["echo/a"]},
        {"op": "add", "path": "/models/fast/-", "value": "echo/b"},
        {"op": "remove", "path": "/server/headerTimeout"},
    ]

    answer = await call(running, "PATCH", "/config", operations, **JSON_PATCH)

    assert answer.status == 200
    assert (await value(running, "maxConcurrency"), await value(running, "models/fast")) == (5, ["echo/a", "echo/b"])


async def test_json_patch_of_a_part_counts_from_there(running: ProxyHarness) -> None:
    operations = [
        {"op": "replace", "path": "/headerTimeout", "value": 3},
        {"op": "test", "path": "/port", "value": 8080},
    ]

    answer = await call(running, "PATCH", "/config/server", operations, **JSON_PATCH)
    outside = await call(running, "PATCH", "/config/server", [{"op": "remove", "path": "/maxQueue"}], **JSON_PATCH)

    assert (answer.status, outside.status, await value(running, "server/headerTimeout")) == (200, 422, 3)


@pytest.mark.parametrize(
    ("operations", "status", "word"),
    [
        ([{"op": "test", "path": "/maxConcurrency", "value": 1}], 422, "operation 0 (test /maxConcurrency)"),
        ([{"op": "add", "path": "/maxQueue", "value": 1}, {"op": "remove", "path": "/nope"}], 422, "operation 1"),
        ([{"op": "add", "path": "/maxQueue", "value": -1}], 422, "maxQueue"),
        ([{"op": "jump", "path": "/maxQueue"}], 422, "operation 0"),
        ([{"op": "add", "path": "maxQueue", "value": 1}], 422, "operation 0"),
        ([{"op": "replace", "path": "", "value": 5}], 400, "no JSON object"),
        ([{"path": "/maxQueue", "value": 1}], 422, "operation 0"),
        ({"op": "add"}, 400, "list of operations"),
        ([5], 400, "list of operations"),
        ([{"op": "copy", "from": "", "path": f"/{n}"} for n in range(40)], 400, "values"),
        ([{"op": "test", "path": "", "value": 1}] * 1001, 400, "1000 operations at most"),
    ],
)
async def test_json_patch_that_cannot_be_applied_changes_nothing(
    running: ProxyHarness, operations: Any, status: int, word: str
) -> None:
    before = (await call(running, "GET", "/config/providers")).body

    answer = await call(running, "PATCH", "/config", operations, **JSON_PATCH)

    assert (answer.status, word in answer.body.decode()) == (status, True), answer.body
    assert (await call(running, "GET", "/config/providers")).body == before
    assert running.app.configuration.standing.revision == 1


# -- bad input -------------------------------------------------------------------------------------------------------


async def test_every_fault_is_told_with_path_and_value(running: ProxyHarness) -> None:
    body = {
        "maxConcurrency": "many",
        "maxQueu": 1,
        "queueTimeout": -1,
        "server": {"port": 99999, "clientMaxSize": "5 parsecs"},
        "providers": {"p": {"type": "openai", "baseUrl": "http://x", "apiKey": f"{CANARY} with a blank"}},
        "models": {"m": ["nowhere/x"]},
        "debug": {"level": "loud"},
        "log": {"level": True},
    }

    answer = await call(running, "PATCH", "/config", body)

    assert answer.status == 422
    assert dict(errors(answer)) == {
        "maxConcurrency": "many",
        "maxQueu": None,
        "queueTimeout": -1,
        "server.port": 99999,
        "server.clientMaxSize": "5 parsecs",
        "providers.p.apiKey": None,
        "debug.level": "loud",
        "log.level": True,
    }
    assert "did you mean maxQueue?" in answer.body.decode()
    assert CANARY not in answer.body.decode()


async def test_contradiction_is_told(running: ProxyHarness) -> None:
    answer = await call(running, "PATCH", "/config", {"models": {"m": ["nowhere/x"]}})

    assert (answer.status, errors(answer)) == (422, [("models.m.0", "nowhere/x")])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"", {}, 400),
        (b"null", {}, 400),
        (b"[]", {}, 400),
        (b"5", {}, 400),
        (b"maxConcurrency=5", FORM, 400),
        (b'{"a": NaN}', {}, 400),
        (b'{"maxConcurrency": 1e999}', {}, 400),
        (b'"\xff"', {}, 400),
        (b'{"a":' * 40 + b"1" + b"}" * 40, {}, 400),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, {}, 400),
        (b"[" * 100_000, {}, 400),
        (orjson.dumps({"models": {str(n): [] for n in range(60_000)}}), {}, 400),
        (b'{"x":"' + b"x" * (1 << 20) + b'"}', {}, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (b"{}", {**FORM, "Sec-Fetch-Site": "same-origin"}, 415),
        (b'{"maxConcurrency": 1e400}', {}, 400),
        (b'{"maxConcurrency": 99999999999999999999999}', {}, 422),
        (b'{"maxConcurrency": 5.5}', {}, 422),
        (b'{"maxConcurrency": true}', {}, 422),
        (b'{"models": {"": ["echo/a"]}}', {}, 200),
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "POST", "PUT"])
async def test_bad_body_gets_its_status_and_changes_nothing(
    running: ProxyHarness, method: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    before = running.app.configuration.standing

    answer = await call(running, method, "/config", body, **headers)

    assert answer.status == status, answer.body[:300]
    if status != 200:
        assert running.app.configuration.standing is before
        assert len(answer.body) < 4000


async def test_browser_is_refused_before_its_body_counts(running: ProxyHarness) -> None:
    answer = await call(running, "PATCH", "/config", b"{}", Origin="https://evil.example", **FORM)

    assert answer.status == 403


@pytest.mark.parametrize(
    "query",
    ["dryrun=true", "dryRun=maybe", "ttl=soon", "ttl=0", "ttl=2000d", "guard=0.2s", "guard=2h", "ttl=-5s", "x="],
)
async def test_query_that_is_not_understood_changes_nothing(running: ProxyHarness, query: str) -> None:
    answer = await call(running, "PATCH", f"/config?{query}", {"maxQueue": 5})

    assert (answer.status, errors(answer)[0][0]) == (422, "?" + query.partition("=")[0])
    assert running.app.configuration.standing.revision == 1


async def test_methods_that_a_path_does_not_take_are_listed(running: ProxyHarness) -> None:
    answers = [await call(running, "DELETE", "/config"), await call(running, "POST", "/config/server", {})]

    assert [(one.status, one.header("allow")) for one in answers] == [
        (405, "GET, PATCH, POST, PUT"),
        (405, "DELETE, GET, PATCH, PUT"),
    ]


# -- If-Match, dry run -----------------------------------------------------------------------------------------------


async def test_write_that_lost_the_race_learns_the_revision_in_force(running: ProxyHarness) -> None:
    tag = (await call(running, "GET", "/config")).header("etag")
    won = await call(running, "PATCH", "/config", {"maxQueue": 1}, If_Match=tag)

    lost = await call(running, "PATCH", "/config", {"maxQueue": 2}, If_Match=tag)

    document: Any = lost.json()
    assert (tag, won.header("etag")) == ('"1"', '"2"')
    assert (lost.status, lost.header("etag"), document["revision"]) == (412, '"2"', 2)
    assert await value(running, "maxQueue") == 1


@pytest.mark.parametrize(
    ("tag", "status"),
    [("*", 200), ('W/"1"', 200), ('"7", "1"', 200), ("1", 200), ('"abc"', 412), ('"7"', 412), ('""', 412)],
)
async def test_if_match_as_it_may_be_written(running: ProxyHarness, tag: str, status: int) -> None:
    answer = await call(running, "PATCH", "/config", {"maxQueue": 1}, If_Match=tag)

    assert answer.status == status


async def test_dry_run_tells_and_changes_nothing(running: ProxyHarness) -> None:
    answer = await call(running, "PATCH", "/config?dryRun=true&ttl=5m", {"maxQueue": 1, "server": {"port": 1}})

    told: Any = answer.json()
    assert (told["revision"], told["dryRun"], told["changed"]) == (1, True, True)
    assert [one["path"] for one in told["diff"]] == ["server.port", "maxQueue"]
    assert told["restartNeeded"] == ["server.port"]
    assert told["expiresAt"].endswith("Z")
    assert running.app.configuration.standing.revision == 1
    assert await value(running, "maxQueue") == 1000


async def test_write_that_changes_nothing_makes_no_revision(running: ProxyHarness) -> None:
    answer = await call(running, "PATCH", "/config", {"maxQueue": 1000})

    told: Any = answer.json()
    assert (answer.status, told["changed"], told["revision"], told["diff"]) == (200, False, 1, [])


async def test_restart_is_told_where_it_is_needed(running: ProxyHarness) -> None:
    answer = await call(running, "PATCH", "/config", {"server": {"port": 1234}})

    told: Any = answer.json()
    health: Any = (await call(running, "GET", "/health")).json()
    assert (answer.status, told["restartNeeded"]) == (200, ["server.port"])
    assert health["restartNeeded"] == ["server.port"]


# -- whole documents -------------------------------------------------------------------------------------------------


async def test_put_replaces_everything(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"maxQueue": 5})

    await call(running, "PUT", "/config", {"maxConcurrency": 9})

    assert (await value(running, "maxQueue"), await value(running, "maxConcurrency")) == (1000, 9)


async def test_export_that_was_cut_is_refused(running: ProxyHarness) -> None:
    whole: Any = (await call(running, "GET", "/config")).json()
    cut = {key: item for key, item in whole.items() if key != "models"}

    posted = await call(running, "POST", "/config", cut)
    patched = await call(running, "PATCH", "/config", whole)
    put = await call(running, "PUT", "/config", cut)

    assert (posted.status, errors(posted)[0][0]) == (422, "$export")
    assert "cut export: PATCH to merge, PUT to replace" in posted.body.decode()
    assert (patched.status, errors(patched)[0][0]) == (422, "$export")
    assert put.status == 200


async def test_export_with_its_keys_in_another_order_is_whole(running: ProxyHarness) -> None:
    whole: Any = (await call(running, "GET", "/config")).json()

    posted = await call(running, "POST", "/config", orjson.dumps(whole, option=orjson.OPT_SORT_KEYS))

    assert posted.status == 200


async def test_backup_reset_and_restore_give_the_same_with_its_secrets(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"file": upstream.provider(apiKey="sk-of-the-file-00", models=["f"])})
    live = {**upstream.provider(models=["live"]), "apiKey": CANARY, "headers": {"X-Api-Key": CANARY + "-2"}}
    await call(proxy, "PATCH", "/config", {"providers": {"live": live}, "maxQueue": 7, "debug": {"level": "debug"}})
    before = proxy.app.configuration.standing.loaded

    backup = (await call(proxy, "GET", "/config")).body
    reset: Any = (await call(proxy, "POST", "/reset")).json()
    gone = await call(proxy, "GET", "/config/providers/live")
    restored = await call(proxy, "POST", "/config", backup, **FORM)

    after = proxy.app.configuration.standing.loaded
    await proxy.chat("hello", model="live")
    assert (reset["snapshot"], reset["revision"], gone.status, restored.status) == (2, 3, 404, 200)
    assert (after.settings, after.sections) == (before.settings, before.sections)
    assert overlay_of(proxy).keys() == {"providers", "maxQueue", "debug"}
    assert upstream.requests[-1].header("authorization") == f"Bearer {CANARY}"
    assert upstream.requests[-1].header("x-api-key") == CANARY + "-2"
    assert CANARY not in backup.decode()
    assert "sk-of-the-file" not in backup.decode()


async def test_reset_names_the_call_that_undoes_it(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"maxQueue": 7})

    reset: Any = (await call(running, "POST", "/reset", X_Reason="drill")).json()
    await call(running, "POST", reset["undo"].partition(running.url)[2])

    assert reset["undo"] == f"curl -X POST {running.url}/deployments/2/rollback"
    assert await value(running, "maxQueue") == 7


async def test_unknown_secret_is_refused(running: ProxyHarness) -> None:
    body = {"admin": {"token": {"$secret": "0123456789abcdef"}}}

    answer = await call(running, "PATCH", "/config", body)

    assert (answer.status, errors(answer)[0][0]) == (422, "admin.token")


async def test_secret_of_a_dry_run_is_not_known_afterwards(running: ProxyHarness) -> None:
    provider = {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": CANARY}
    dry: Any = (await call(running, "PATCH", "/config?dryRun=1", {"providers": {"x": provider}})).json()
    shown = dry["diff"][0]["new"]["apiKey"]

    answer = await call(running, "PATCH", "/config", {"providers": {"x": {**provider, "apiKey": shown}}})

    assert CANARY not in str(dry)
    assert (answer.status, errors(answer)[0][0]) == (422, "providers.x.apiKey")


# -- validate, issues, schema ----------------------------------------------------------------------------------------


async def test_running_configuration_and_candidates_are_validated(running: ProxyHarness) -> None:
    whole: Any = (await call(running, "GET", "/config")).json()

    valid: Any = (await call(running, "GET", "/config/validate")).json()
    same: Any = (await call(running, "POST", "/config/validate", whole)).json()
    other: Any = (await call(running, "POST", "/config/validate", {"maxQueue": 3}, **FORM)).json()
    wrong = await call(running, "POST", "/config/validate", {"maxQueue": -3})

    assert (valid["valid"], valid["revision"], valid["issues"]) == (True, 1, [])
    assert (same["valid"], same["diff"]) == (True, [])
    assert ([one["path"] for one in other["diff"]], other["restartNeeded"]) == (["maxQueue"], [])
    assert (wrong.status, errors(wrong)) == (422, [("maxQueue", -3)])
    assert running.app.configuration.standing.revision == 1


async def test_issue_comes_with_a_call_that_mends_it(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"debug": {"enabled": True, "level": "debug"}})
    found: Any = (await call(running, "GET", "/config/issues")).json()
    issue = next(one for one in found["issues"] if one["kind"] == "debug_left_on")

    await call(running, "PATCH", "/config", issue["patch"])

    left: Any = (await call(running, "GET", "/config/issues")).json()
    assert issue["fix"].startswith(f"curl -X PATCH {running.url}/config ")
    assert not [one for one in left["issues"] if one["kind"] == "debug_left_on"]


async def test_schema_tells_what_changes_live(running: ProxyHarness) -> None:
    schema: Any = (await call(running, "GET", "/config/schema")).json()

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["maxConcurrency"]["live"] is True


# -- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"providers": {"x": {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": "${SECRET_OF_ANOTHER}"}}},
        {"providers": {"x": {"type": "http", "baseUrl": "http://127.0.0.1:9", "headers": {"X": "a${NOT_SET:-b}"}}}},
        {"providers": {"x": {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKeyFile": "/etc/hostname"}}},
        {"state": {"dir": "/tmp/elsewhere"}},
        {"plugins": ["debug", "antigravity"]},
        {"plugins": ["${SECRET_OF_ANOTHER}"]},
    ],
)
async def test_without_a_token_a_call_reaches_for_nothing_the_file_does_not_name(body: Any) -> None:
    async with ProxyHarness(environ={"SECRET_OF_ANOTHER": "antigravity"}) as proxy:
        await proxy.start()

        answer = await call(proxy, "PATCH", "/config", body)

        assert answer.status == 422
        assert proxy.app.configuration.standing.revision == 1


@pytest.mark.parametrize(("token", "status"), [(None, 422), ("t" * 20, 200)])
async def test_without_a_token_a_call_reads_no_file_that_is_there(
    proxy: ProxyHarness, tmp_path: Path, token: str | None, status: int
) -> None:
    await proxy.start(admin={"token": token or ""})
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = {"Authorization": f"Bearer {token}"} if token else {}
    provider = {"type": "http", "baseUrl": "https://127.0.0.1:9", "tls": {"caFile": str(tmp_path / "ca.pem")}}

    answer = await call(proxy, "PATCH", "/config", {"providers": {"x": provider}}, **trusted)

    assert answer.status == status


async def test_variable_that_the_file_names_may_be_named() -> None:
    async with ProxyHarness(environ={"KEY": CANARY}) as proxy:
        provider = {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": "${KEY}"}
        await proxy.start(providers={"a": provider})

        answer = await call(proxy, "PATCH", "/config", {"providers": {"b": provider}})

        assert answer.status == 200


async def test_with_a_token_variables_may_be_named_but_no_code() -> None:
    async with ProxyHarness(environ={"KEY": CANARY}) as proxy:
        await proxy.start(admin={"token": "t" * 20})
        trusted = {"Authorization": "Bearer " + "t" * 20}
        provider = {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": "${KEY}"}

        named = await call(proxy, "PATCH", "/config", {"providers": {"b": provider}}, **trusted)
        code = await call(proxy, "PATCH", "/config", {"plugins": ["antigravity"]}, **trusted)
        stranger = await call(proxy, "PATCH", "/config", {"maxQueue": 1})

        assert (named.status, code.status, stranger.status) == (200, 422, 401)


async def test_new_token_is_in_force_at_once(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"admin": {"token": CANARY}})

    without = await call(running, "GET", "/config")
    with_it = await call(running, "GET", "/config", Authorization=f"Bearer {CANARY}")

    assert (without.status, with_it.status) == (401, 200)
    assert CANARY not in with_it.body.decode()


async def test_token_that_is_set_while_a_body_arrives_does_not_make_its_caller_trusted() -> None:
    async with ProxyHarness(environ={"SECRET_OF_ANOTHER": CANARY}) as proxy:
        await proxy.start()
        body = b'{"native": {"defaultModel": "${SECRET_OF_ANOTHER}"}}'
        async with RawClient(proxy.url) as client:
            whole = encode_request("PATCH", "/config", body, {}, host=proxy.url.partition("//")[2])
            await client.send(whole[:-20])
            await until(lambda: bool(proxy.app.connections), "it has begun")
            await call(proxy, "PATCH", "/config", {"admin": {"token": "t" * 20}})
            await client.send(whole[-20:])
            answer = await client.read_response()

        assert (answer.status, proxy.app.configuration.standing.revision) == (422, 2)


async def test_repeated_parameter_is_refused_and_a_slash_at_the_end_is_not(running: ProxyHarness) -> None:
    repeated = await call(running, "PATCH", "/config?dryRun=true&dryRun=false", {"maxQueue": 1})
    slash = await call(running, "GET", "/config/")
    digits = await call(running, "GET", f"/config/plugins/{'9' * 5000}")

    assert (repeated.status, slash.status, digits.status) == (400, 200, 404)
    assert running.app.configuration.standing.revision == 1
