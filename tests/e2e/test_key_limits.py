"""Limits of virtual keys are held by the plugin that limits, or an operator is told that they are not."""

from typing import Any

import orjson
import pytest

from proxy.testing import ProxyHarness


async def call(proxy: ProxyHarness, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {} if body is None else {"Content-Type": "application/json"}
    return orjson.loads((await proxy.request(method, path, body, headers)).body)


@pytest.mark.parametrize(
    ("plugins", "is_on", "is_told"),
    [
        (["keys", "rate_limit"], True, False),
        (["keys", "rate_limit"], False, True),
        (["rate_limit", "keys"], True, True),
        (["keys"], None, True),
    ],
)
async def test_limits_of_a_key_are_held_or_missed(plugins: list[str], is_on: bool | None, is_told: bool) -> None:
    async with ProxyHarness() as proxy:
        limits = {} if is_on is None else {"rate_limit": {"enabled": is_on}}
        await proxy.start(plugins=plugins, keys={"enabled": True}, **limits)
        made = await call(proxy, "POST", "/keys", {"name": "team-a", "limits": {"requestsPerHour": 1}})
        headers = {"Authorization": f"Bearer {made['key']}"}

        statuses = [(await proxy.chat("hi", headers=headers)).status for _ in range(2)]

        issues = (await call(proxy, "GET", "/config/issues"))["issues"]
    assert statuses == ([200, 200] if is_told else [200, 429])
    assert [one["kind"] for one in issues if one["kind"].startswith("key_")] == ["key_limits_unheld"] * is_told
