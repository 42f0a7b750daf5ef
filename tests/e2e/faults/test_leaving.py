"""Clients that leave, at every endpoint, in every phase and in both ways (FAULTS B1)."""

import asyncio
import os
import re
import statistics
import time
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from proxy.testing import FakeProvider, Faults, ProxyProcess, RawClient, encode_request
from tests.e2e.faults.rig import SLACK, Watch, canary, configure, figure, invariants
from tests.e2e.rig import CALLS, MESSAGES, STREAMS, Call, ask

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRIALS = int(os.environ.get("SWITCHYARD_LEAVING_TRIALS", "5"))
"""For each endpoint, phase and way; `scripts/prove` says 500."""
P50_S, P99_S = 0.1 * SLACK, 0.25 * SLACK
INPUT_TOKENS = 9  # as the fake provider says at the beginning, in formats that tell it then

Way = Literal["fin", "rst"]
Phase = Literal["before the first byte", "mid-stream", "no stream"]

WHOLE: Mapping[str, Call] = {
    **CALLS,
    "completions": Call("openai", "/v1/completions", {"model": "gpt-4o", "prompt": "Hello"}, {}),
    "embeddings": Call("openai", "/v1/embeddings", {"model": "gpt-4o", "input": "Hello"}, {}),
    "count_tokens": Call(
        *("anthropic", "/v1/messages/count_tokens", {"model": "claude-x", "messages": MESSAGES}),
        CALLS["anthropic"].headers,
    ),
    "countTokens": Call("gemini", "/v1beta/models/gemini-x:countTokens", CALLS["gemini"].document, {}),
    "generate": Call("ollama", "/api/generate", {"model": "llama3", "prompt": "Hello", "stream": False}, {}),
    "native": Call("native", "/", {"prompt": "Hello", "model": "gpt-4o"}, {}),
    "raw": Call("openai", "/proxy/openai/chat/completions", CALLS["openai"].document, {}),
}
STREAMED: Mapping[str, Call] = {
    **STREAMS,
    **{
        name: Call(WHOLE[name].format, WHOLE[name].path, {**WHOLE[name].document, "stream": True}, {})
        for name in ("completions", "generate", "native", "raw")
    },
}
MODELS = {"openai": "gpt-*", "anthropic": "claude-*", "gemini": "gemini-*", "ollama": "llama*"}


@pytest.mark.parametrize("way", ["fin", "rst"])
@pytest.mark.parametrize("phase", ["before the first byte", "mid-stream", "no stream"])
async def test_client_that_leaves_ends_the_providers_work(proxy: ProxyProcess, phase: Phase, way: Way) -> None:
    calls = WHOLE if phase == "no stream" else STREAMED
    took: dict[str, list[float]] = {}
    async with FakeProvider() as upstream:
        one_at_a_time: Any = {  # a slot that is not given back shuts out all who come later
            name: upstream.provider(name, apiKey=canary(name), models=[models], maxConcurrency=1)  # type: ignore[arg-type]
            for name, models in MODELS.items()
        }
        await configure(proxy, one_at_a_time)
        async with invariants(proxy, upstream) as watch:
            before = await input_tokens(proxy)
            for name, call in calls.items():
                took[name] = await leave_often(watch, upstream, call, phase, way)
            recorded = await input_tokens(proxy) - before

    p50_s = {name: statistics.median(each) for name, each in took.items()}
    p99_s = {name: sorted(each)[int(0.99 * len(each))] for name, each in took.items()}
    figure(
        "B1",
        f"{phase}, {way}: {len(calls)} endpoints, {TRIALS} trials each: provider sees it after {worst(p50_s)} (p50, "
        f"limit {P50_S * 1000:g} ms), {worst(p99_s)} (p99, limit {P99_S * 1000:g} ms) at the slowest",
    )
    assert max(p50_s.values()) <= P50_S
    assert max(p99_s.values()) <= P99_S
    tells_early = 2 if phase == "mid-stream" else 0  # Anthropic's and Gemini's streams begin with the input's size
    assert recorded == tells_early * TRIALS * INPUT_TOKENS


async def leave_often(watch: Watch, upstream: FakeProvider, call: Call, phase: Phase, way: Way) -> list[float]:
    """Leave so many requests; gives how long after each the provider saw it."""
    upstream.stream(["first", "second"], gate=asyncio.Event())  # never set
    if phase != "mid-stream":
        upstream.reply("never", faults=Faults(never_answer=True))
    upstream.requests.clear()
    upstream.early_closes.clear()
    took = []
    for number in range(1, TRIALS + 1):
        async with RawClient(watch.proxy.url) as client:
            host = f"127.0.0.1:{watch.proxy.port}"
            await client.send(encode_request("POST", call.path, call.body(), call.headers, host=host))
            if phase == "mid-stream":
                response = await client.read_head()
                while b"first" not in response.body:
                    assert await client.read_part(response)
                watch.saw(response.body)
            else:
                await upstream.wait_for_request(number)
            client.close() if way == "fin" else client.reset()
            left_s = time.monotonic()
            took.append(await upstream.wait_for_disconnect(count=number) - left_s)
    return took


async def input_tokens(proxy: ProxyProcess) -> int:
    """How many input tokens were recorded since the proxy's start, as /metrics tells."""
    text = (await ask(proxy, "GET", "/metrics")).text
    return sum(int(float(count)) for count in re.findall(r'proxy_tokens_total\{.*type="input"\} ([\d.]+)', text))


def worst(figures_s: Mapping[str, float]) -> str:
    name = max(figures_s, key=lambda name: figures_s[name])
    return f"{figures_s[name] * 1000:.1f} ms ({name})"
