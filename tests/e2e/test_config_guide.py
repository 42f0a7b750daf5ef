"""The troubleshooting guide's configuration commands, in its order, typed into a real shell against a real process."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from proxy.config.models import BUILT_IN_PLUGINS
from proxy.testing import ProxyProcess
from tests.e2e.rig import ROOT, Ended, ask, clean_environment, run, until
from tests.e2e.test_guide import WORKER
from tests.tools import require_tool

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = "sk-canary-of-the-guide-4c1d"


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    """The shipped configuration, in a file of its own that a test may edit."""
    text = (ROOT / "conf" / "proxy.yaml").read_text()
    (tmp_path / "proxy.yaml").write_text(text)
    environment = clean_environment(PROXY_STATE_DIR=str(tmp_path / "state"))
    arguments = ("--config", str(tmp_path / "proxy.yaml"))
    async with ProxyProcess(arguments=arguments, environment=environment) as process:
        yield process


class Shell:
    """A shell in which `wrangler` is this program's command line and the guide's host is the proxy."""

    def __init__(self, proxy: ProxyProcess, folder: Path) -> None:
        require_tool("curl")
        self._proxy = proxy
        self._folder = folder

    async def __call__(self, command: str) -> Ended:
        program = f"{sys.executable} -m proxy --config {self._folder / 'proxy.yaml'}"
        for name, real in (
            (WORKER, self._proxy.url),
            ("wrangler", program),
            ("config-backup", str(self._folder / "b")),
        ):
            command = command.replace(name, real)
        state = str(self._folder / "state")
        return await run("sh", "-c", command, cwd=ROOT, PROXY_STATE_DIR=state, NO_COLOR="1")

    async def json(self, command: str) -> Any:
        ended = await self(f"{command} --silent --show-error")
        assert ended.code == 0, ended.errors
        return orjson.loads(ended.output)


async def test_guides_sequence_from_first_sign_to_restore(proxy: ProxyProcess, tmp_path: Path) -> None:
    shell = Shell(proxy, tmp_path)
    json = '-H "Content-Type: application/json"'

    # Worker not responding
    first = await shell("wrangler deployments list")
    health = await shell.json(f"curl {WORKER}/health")
    # High error rates
    fallback = await shell.json(
        f"curl -X POST {WORKER}/config \\\n  {json} \\\n  -d '{{\"enableFallbackProviders\": true}}'"
    )
    # Slow response times
    slower = await shell.json(f"curl -X PATCH {WORKER}/config \\\n  {json} \\\n  -d '{{\"maxConcurrency\": 25}}'")
    limited = await shell.json(f"curl {WORKER}/health")
    # Memory, limits, cache
    tuned = [
        await shell.json(f"curl -X PATCH {WORKER}/config \\\n  {json} \\\n  -d '{body}'")
        for body in (
            '{"cache": {"size": 50}}',
            '{"rateLimit": {"perHour": 2000, "burstSize": 100}}',
            '{"rateLimit": {"algorithm": "sliding-window"}}',
            '{"cache": {"ttl": 7200}}',
            '{"cache": {"smartCache": true}}',
        )
    ]
    # Debug mode
    debug = await shell.json(
        f'curl -X PATCH {WORKER}/config \\\n  {json} \\\n  -d \'{{"debug": {{"enabled": true, "level": "debug"}}}}\''
    )
    await shell(f'curl -X POST {WORKER}/ -d \'{{"prompt": "Hello"}}\'')
    plugins = await shell.json(f"curl {WORKER}/plugins")
    # Configuration validation
    valid = await shell.json(f"curl {WORKER}/config/validate")
    issues = await shell.json(f"curl {WORKER}/config/issues")
    # Emergency: backup, reset, restore, restart
    before = await shell.json(f"curl {WORKER}/config")
    await shell(f"curl {WORKER}/config > config-backup.json")
    reset = await shell.json(f"curl -X POST {WORKER}/reset")
    empty = await shell.json(f"curl {WORKER}/config")
    restored = await shell.json(f"curl -X POST {WORKER}/config \\\n  {json} \\\n  -d @config-backup.json")
    deployed = await shell("wrangler deploy")
    after = await shell.json(f"curl {WORKER}/config")
    listed = await shell("wrangler deployments list --json")
    back = await shell("wrangler deployments rollback 1")
    last = await shell.json(f"curl {WORKER}/config/maxConcurrency")

    assert (first.code, "current" in first.output) == (0, True)
    assert (health["revision"], fallback["changed"], slower["revision"]) == (1, False, 2)
    assert (limited["maxConcurrency"], limited["revision"]) == (25, 2)
    assert [one["revision"] for one in tuned] == [3, 4, 5, 6, 7]
    assert [one["path"] for one in tuned[1]["diff"]] == ["rateLimit.perHour", "rateLimit.burstSize"]
    assert [one["path"] for one in debug["diff"]] == ["debug.enabled", "debug.level"]
    assert plugins["plugins"][0]["hooks"]["pre_request"]["calls"] == 1
    assert (valid["valid"], valid["revision"]) == (True, 8)
    assert {one["kind"] for one in issues["issues"]} == {"debug_left_on", "drift"}
    assert (reset["snapshot"], reset["revision"], empty["maxConcurrency"]) == (8, 9, 100)
    assert restored["revision"] == 10
    before.pop("$export"), after.pop("$export")
    assert after == before
    assert (deployed.code, deployed.errors) == (0, "")
    causes = [one["cause"] for one in orjson.loads(listed.output)["deployments"]]
    assert causes == ["api", "reset", *["api"] * 7, "start"]
    assert (back.code, last) == (0, 100)
    assert "Traceback" not in proxy.output


async def test_fix_of_each_issue_can_be_pasted(proxy: ProxyProcess, tmp_path: Path) -> None:
    shell = Shell(proxy, tmp_path)
    await shell.json(f'curl -X PATCH {WORKER}/config -d \'{{"debug": {{"enabled": true}}, "maxQueue": 7}}\'')
    await shell.json(f'curl -X PATCH {WORKER}/config -d \'{{"server": {{"allowedOrigins": ["*"]}}}}\'')
    issues = (await shell.json(f"curl {WORKER}/config/issues"))["issues"]

    for issue in issues:
        ended = await shell(issue["fix"])
        assert ended.code == 0, ended

    left = (await shell.json(f"curl {WORKER}/config/issues"))["issues"]
    assert {one["kind"] for one in issues} == {"any_origin", "debug_left_on", "drift"}
    assert left == []


async def test_lines_to_paste_show_the_token_that_the_shell_has(proxy: ProxyProcess, tmp_path: Path) -> None:
    token = "t" * 32
    shell = Shell(proxy, tmp_path)
    body = orjson.dumps({"maxQueue": 7, "admin": {"token": token}}).decode()
    await shell.json(f"curl -X PATCH {WORKER}/config -d '{body}'")
    listed = await shell.json(f'curl {WORKER}/config/issues -H "Authorization: Bearer {token}"')
    fix = next(one["fix"] for one in listed["issues"] if one["path"] == "maxQueue")

    refused = await shell(fix)
    mended = await shell.json(f"export PROXY_ADMIN_TOKEN={token}\n{fix}")
    reset = await shell.json(f'curl -X POST {WORKER}/reset -H "Authorization: Bearer {token}"')

    assert '"unauthorized"' in refused.output
    assert [one["path"] for one in mended["diff"]] == ["maxQueue"]
    undone = await shell.json(reset["undo"])  # the reset took the token away
    assert undone["revision"] == 5
    assert token not in fix + reset["undo"]


async def test_edit_of_the_file_is_applied_or_refused_by_watch_and_by_sighup(
    proxy: ProxyProcess, tmp_path: Path
) -> None:
    shell, file = Shell(proxy, tmp_path), tmp_path / "proxy.yaml"
    text = file.read_text()

    await shell(f"sed -i 's/^maxQueue: 1000 /maxQueue: 55 /' {file}")

    async def is_applied() -> bool:
        return (await ask(proxy, "GET", "/config/maxQueue")).body == b"55\n"

    await until(is_applied, "the edit is in force", timeout_s=1.0)
    file.write_text(text.replace("maxQueue: 1000", "maxQueue: -1"))
    await until(lambda: "config_refused" in proxy.output, "the edit is refused", timeout_s=1.0)
    line = text[: text.index("maxQueue: 1000")].count("\n") + 1
    assert f"{file}:{line}: maxQueue: -1 is not at least 0" in proxy.output
    await ask(proxy, "PATCH", "/config", b'{"changes": {"watchFile": false}}')
    file.write_text(text.replace("maxQueue: 1000", "maxQueue: 66"))
    await shell(f"kill -HUP {proxy.pid}")

    async def is_hung_up() -> bool:
        return (await ask(proxy, "GET", "/config/maxQueue")).body == b"66\n"

    await until(is_hung_up, "SIGHUP has read the file")
    health: Any = (await ask(proxy, "GET", "/health")).json()
    assert (health["status"], health["problems"]) == ("healthy", [])


async def test_deploy_restarts_what_needs_a_restart(proxy: ProxyProcess, tmp_path: Path) -> None:
    shell, file = Shell(proxy, tmp_path), tmp_path / "proxy.yaml"
    await shell.json(f'curl -X PATCH {WORKER}/config -d \'{{"maxQueue": 7, "changes": {{"watchFile": false}}}}\'')
    old = proxy.pid, proxy.url
    shipped, turned = ", ".join(BUILT_IN_PLUGINS), ", ".join(reversed(BUILT_IN_PLUGINS))
    file.write_text(file.read_text().replace(f"plugins: [{shipped}]", f"plugins: [{turned}]"))

    told = await shell("wrangler deploy")
    restarted = await shell("wrangler deploy --restart")
    await until(lambda: proxy.output.count("listens on") == 2, "it listens again", timeout_s=10)
    address = orjson.loads((tmp_path / "state" / "address.json").read_bytes())

    assert (told.code, "restart" in told.output) == (0, True), told
    assert restarted.code == 0
    assert address["pid"] == old[0]  # the same process became the new program
    listed = await run("curl", "-s", f"{address['url']}/config")
    shown = orjson.loads(listed.output)
    assert (shown["maxQueue"], shown["plugins"]) == (7, list(reversed(BUILT_IN_PLUGINS)))


async def test_secrets_given_live_are_in_no_answer_log_or_file_but_one(proxy: ProxyProcess, tmp_path: Path) -> None:
    shell = Shell(proxy, tmp_path)
    provider = {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": CANARY, "headers": {"X-Api-Key": CANARY}}
    bodies = [
        {"providers": {"x": provider}, "admin": {"token": None}},
        {"providers": {"x": {**provider, "baseUrl": f"http://u:{CANARY}@127.0.0.1:9"}}},
        {"providers": {"x": {**provider, "apiKey": CANARY + " x", "weight": -1}}},
        {"debug": {"enabled": True, "level": "debug"}},
    ]

    patch = {"Content-Type": "application/json-patch+json"}
    shown = ["config", "config/issues", "config/validate", "config/providers/x", "deployments", "deployments/2"]
    shown += ["deployments/1/diff/2", "health", "metrics", "plugins", "providers/status"]

    calls = [("PATCH", f"/config{query}", orjson.dumps(body), {}) for body in bodies for query in ("?dryRun=true", "")]
    operations = [{"op": "test", "path": "/providers/x/apiKey", "value": CANARY}]
    calls += [("PATCH", "/config", orjson.dumps(operations), patch), ("POST", "/reset", b"", {})]
    calls += [("POST", "/deployments/2/rollback", b"", {}), *(("GET", f"/{path}", b"", {}) for path in shown)]
    seen = [(await ask(proxy, method, path, body or None, headers)).body for method, path, body, headers in calls]
    for verb in ("config show", "config export", "config issues", "deployments show 2", "deployments diff 1 2"):
        ended = await shell(f"wrangler {verb}")
        seen += [ended.output.encode(), ended.errors.encode()]
    grep = await run("grep", "-rl", CANARY, str(tmp_path))

    assert [one for one in seen if CANARY.encode() in one] == []
    assert CANARY not in proxy.output
    assert grep.output.split() == [str(tmp_path / "state" / "secrets.json")]


async def test_log_level_changes_live(proxy: ProxyProcess) -> None:
    await ask(proxy, "PATCH", "/config", b'{"maxQueue": 1}')
    await ask(proxy, "PATCH", "/config", b'{"log": {"level": "warn"}}')
    await ask(proxy, "PATCH", "/config", b'{"maxQueue": 2}')
    await ask(proxy, "PATCH", "/config", b'{"log": {"level": "info", "format": "text"}}')
    await ask(proxy, "PATCH", "/config", b'{"maxQueue": 3}')
    await until(lambda: "revision 6 by" in proxy.output, "the last one is written")

    lines = [line for line in proxy.output.splitlines() if "config_changed" in line]
    told = [next(number for number in range(2, 7) if f"revision {number} by" in line) for line in lines]
    assert told == [2, 5, 6]
    assert lines[0].startswith("{")
    assert lines[-1].partition(" INFO ")[2].startswith(" config_changed: ")
