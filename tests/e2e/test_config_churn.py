"""Thousands of changes and toggles leave the memory as it was (G4)."""

import os
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyProcess, RawClient
from tests.e2e.rig import CALLS, clean_environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATCHES = int(os.environ.get("SWITCHYARD_PATCHES", "600"))
"""How many; `scripts/prove` says 10,000."""
WARM_UP = 200


def change(number: int, upstream: FakeProvider) -> dict[str, Any]:
    """One of many kinds of changes: limits, a plugin off and on, a key, a provider made and taken away."""
    provider = upstream.provider(models=["gpt-*"], apiKey=f"sk-of-number-{number:06}")
    kinds: list[dict[str, Any]] = [
        {"maxConcurrency": 50 + number % 50},
        {"debug": {"enabled": number % 4 == 2, "level": "debug"}, "balancer": {"enabled": number % 8 > 3}},
        {"providers": {"openai": provider}},
        {"providers": {f"p{number % 7}": provider, f"p{(number + 3) % 7}": None}},
        {"models": {"fast": ["openai/gpt-4o"]} if number % 2 else None},
    ]
    return kinds[number % len(kinds)]


async def test_many_changes_leave_memory_files_and_threads_as_they_were(upstream: FakeProvider) -> None:
    config = {"providers": {"openai": upstream.provider(models=["gpt-*"])}, "changes": {"keep": 20}}
    async with ProxyProcess(config, environment=clean_environment()) as proxy, RawClient(proxy.url) as client:
        sizes: list[int] = []
        for number in range(WARM_UP + PATCHES):
            answer = await client.request("PATCH", "/config", orjson.dumps(change(number, upstream)))
            assert answer.status == 200, answer.body
            if number % 5 == 0:
                call = CALLS["openai"]
                assert (await client.request("POST", call.path, call.body())).status == 200
            if number >= WARM_UP:
                sizes.append(proxy.rss_bytes())
        begin, end = median(sizes[: PATCHES // 10]), median(sizes[-PATCHES // 10 :])
        process = Path(f"/proc/{proxy.pid}")
        folders = (process / "task", process / "fd", proxy.state_path / "revisions")
        threads, files, revisions = (len(list(folder.iterdir())) for folder in folders)
        secrets = orjson.loads((proxy.state_path / "secrets.json").read_bytes())["secrets"]

    growth = end / begin - 1
    print(f"{PATCHES} changes: {begin / 2**20:.1f} MB to {end / 2**20:.1f} MB ({growth:+.1%})")
    print(f"{threads} threads, {files} open files, {revisions} revisions, {len(secrets)} secrets")
    assert growth < 0.05
    assert (threads < 45, files < 40, revisions, len(secrets) < 60) == (True, True, 20, True)
