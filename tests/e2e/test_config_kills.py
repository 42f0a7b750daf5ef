"""kill -9 at random moments of a write loop: after each start the configuration is the old or the new one (D1)."""

import asyncio
import os
import random
import signal
import stat
from typing import Any

import orjson
import pytest

from proxy.testing import ProxyProcess, RawClient, RawResponse
from tests.e2e.rig import ask, clean_environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

KILLS = int(os.environ.get("SWITCHYARD_KILLS", "25"))
"""How often; `scripts/prove` says 500."""

SECRET = "sk-live-0f77aa31-{}"


def wanted(number: int) -> dict[str, Any]:
    """A change of three places that must never be seen in part, one of them a secret."""
    return {
        "maxQueue": 1000 + number,
        "queueTimeout": 1 + number,
        "providers": {"x": {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": SECRET.format(number)}},
    }


class WriteLoop:
    """Writes one change after the other until the process dies; knows the last one that was answered."""

    def __init__(self, proxy: ProxyProcess, number: int) -> None:
        self.answered = number
        self.begun = number
        self._proxy = proxy

    async def run(self) -> None:
        try:
            async with RawClient(self._proxy.url) as client:
                while True:
                    self.begun += 1
                    answer: RawResponse = await client.request("PATCH", "/config", orjson.dumps(wanted(self.begun)))
                    assert answer.status == 200, answer.body
                    self.answered = self.begun
        except (ConnectionError, EOFError, OSError):
            return


async def number_in_force(proxy: ProxyProcess) -> int:
    """The number of the change that is in force, all three places of which agree."""
    shown: Any = (await ask(proxy, "GET", "/config")).json()
    number: int = shown["maxQueue"] - 1000
    assert shown["queueTimeout"] == 1 + number
    secrets = (proxy.state_path / "secrets.json").read_text()
    secret_id = shown["providers"]["x"]["apiKey"]["$secret"]
    assert f'"{SECRET.format(number)}"' in secrets
    assert secret_id in secrets
    return number


async def test_kill_at_any_moment_leaves_the_old_or_the_new_configuration() -> None:
    chance = random.Random(20261124)
    outcomes = {"old": 0, "new": 0}
    async with ProxyProcess({"changes": {"keep": 5}}, environment=clean_environment()) as proxy:
        await ask(proxy, "PATCH", "/config", orjson.dumps(wanted(0)))
        number = 0
        for _ in range(KILLS):
            loop = WriteLoop(proxy, number)
            writing = asyncio.ensure_future(loop.run())
            await asyncio.sleep(chance.uniform(0.0, 0.06))
            proxy.send_signal(signal.SIGKILL)
            await proxy.wait()
            await writing

            await proxy.start()

            number = await number_in_force(proxy)
            assert number in (loop.answered, loop.begun)
            outcomes["new" if number > loop.answered else "old"] += 1
        modes = {stat.S_IMODE(path.stat().st_mode) for path in proxy.state_path.rglob("*.json") if path.name != "lock"}
        leftovers = [path.name for path in proxy.state_path.rglob("*.corrupt-*")]
    print(f"kill -9 within a write loop: {sum(outcomes.values())} of {KILLS} whole, {outcomes}")
    assert modes == {0o600}
    assert leftovers == []
