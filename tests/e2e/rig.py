"""What the end-to-end tests share: the configuration of the relaying proxy, requests in each format, and patience."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from proxy.testing import FakeProvider, ProxyProcess, RawClient, RawResponse

ROOT = Path(__file__).parents[2]
KEYS = {
    "openai": "sk-proxy-openai-0f3a91c7",
    "anthropic": "sk-ant-proxy-77c1d2e9",
    "gemini": "AIza-proxy-5b21e8d4",
    "rerank": "sk-proxy-rerank-aa19c3f5",
}
"""The keys that the relaying proxy holds, by provider."""

TEXT = "Hello from the fake provider."


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that a proxy or an SDK would take from it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and "API_KEY" not in name and not name.startswith("PROXY_")
    }
    return {**kept, **more}


def relay_config(upstream: FakeProvider, spare: FakeProvider) -> dict[str, Any]:
    """Providers of every format at one fake, with and without a key; `both-*` has a second one to fall back on."""

    def entry(format: Any, models: str, **settings: Any) -> dict[str, Any]:
        return upstream.provider(format, **{"models": [models], "apiKey": "", **settings})

    return {
        "breaker": {"enabled": False},  # the tests that share it must not remember each other's failures
        "providers": {
            "openai": entry("openai", "gpt-*", apiKey=KEYS["openai"]),
            "anthropic": entry("anthropic", "claude-*", apiKey=KEYS["anthropic"]),
            "gemini": entry("gemini", "gemini-*", apiKey=KEYS["gemini"]),
            "ollama": entry("ollama", "llama*"),
            "open-openai": entry("openai", "open-gpt-*"),
            "open-anthropic": entry("anthropic", "open-claude-*"),
            "open-gemini": entry("gemini", "open-gemini-*"),
            "first": entry("openai", "both-*", apiKey="sk-first", timeouts={"firstByte": "300ms", "idle": "300ms"}),
            "second": spare.provider("openai", models=["both-*"], apiKey="sk-second", priority=1),
            "rerank": {
                "type": "http",
                "baseUrl": f"{upstream.url}/rerank",
                "headers": {"Authorization": f"Bearer {KEYS['rerank']}"},
            },
        },
    }


@dataclass(frozen=True, slots=True)
class Call:
    """A request in one format, for a model that its provider has."""

    format: str
    path: str
    document: Mapping[str, Any]
    headers: Mapping[str, str]

    def body(self, **more: Any) -> bytes:
        return orjson.dumps({**self.document, **more})


MESSAGES = [{"role": "user", "content": "Hello"}]
CALLS = {
    "openai": Call("openai", "/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES}, {}),
    "responses": Call("openai", "/v1/responses", {"model": "gpt-4o", "input": "Hello"}, {}),
    "anthropic": Call(
        "anthropic",
        "/v1/messages",
        {"model": "claude-x", "max_tokens": 99, "messages": MESSAGES},
        {"anthropic-version": "2023-06-01", "x-api-key": "client-key"},
    ),
    "gemini": Call(
        "gemini",
        "/v1beta/models/gemini-x:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
        {},
    ),
    "ollama": Call("ollama", "/api/chat", {"model": "llama3", "messages": MESSAGES, "stream": False}, {}),
}
STREAMS = {
    "openai": Call("openai", "/v1/chat/completions", {**CALLS["openai"].document, "stream": True}, {}),
    "responses": Call("openai", "/v1/responses", {**CALLS["responses"].document, "stream": True}, {}),
    "anthropic": Call(
        "anthropic", "/v1/messages", {**CALLS["anthropic"].document, "stream": True}, CALLS["anthropic"].headers
    ),
    "gemini": Call("gemini", "/v1beta/models/gemini-x:streamGenerateContent?alt=sse", CALLS["gemini"].document, {}),
    "ollama": Call("ollama", "/api/chat", {**CALLS["ollama"].document, "stream": True}, {}),
}


async def ask(
    proxy: ProxyProcess | FakeProvider,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> RawResponse:
    """Send one request on a connection of its own."""
    async with RawClient(proxy.url) as client:
        return await client.request(method, target, body, headers)


async def health(proxy: ProxyProcess) -> dict[str, Any]:
    """What /health says."""
    document = (await ask(proxy, "GET", "/health")).json()
    assert isinstance(document, dict)
    return document


async def until(is_true: Callable[[], Awaitable[bool] | bool], what: str, timeout_s: float = 5.0) -> None:
    """Look again and again until something is so."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                seen = is_true()
                if seen if isinstance(seen, bool) else await seen:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


async def until_idle(proxy: ProxyProcess, timeout_s: float = 5.0) -> None:
    """Wait until no request is in work or queued any more."""

    async def is_idle() -> bool:
        now = await health(proxy)
        return now["requestsInFlight"] == 0 and now["requestsQueued"] == 0

    await until(is_idle, "no request in flight", timeout_s)


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has run."""

    code: int
    output: str
    errors: str


async def run(*command: str, timeout_s: float = 20.0, cwd: Path | None = None, **environment: str) -> Ended:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=clean_environment(**environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        raise AssertionError(f"{command} did not end within {timeout_s:g} s") from None
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), errors.decode())
