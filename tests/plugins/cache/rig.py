"""The cache in a proxy of this process: requests in every format, its parts at hand, and patience."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson

from plugins.cache.desk import Desk
from plugins.cache.memory import MemoryStore
from plugins.cache.plugin import CachePlugin
from proxy.testing import FakeProvider, ProxyHarness, RawClient, RawResponse
from proxy.testing.raw_client import encode_request

MODEL = "fake-model"
MESSAGES = [{"role": "user", "content": "Capital of France?"}]
CONTENTS = [{"role": "user", "parts": [{"text": "Capital of France?"}]}]
CHAT = {"model": MODEL, "messages": MESSAGES}


class Clock:
    """Wall clock of a proxy."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True, slots=True)
class Call:
    """A request in one format.

    Args:
        provider: format of the provider that takes it.
    """

    provider: str
    path: str
    document: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


ANTHROPIC = {"anthropic-version": "2023-06-01"}
CLAUDE = {"model": MODEL, "max_tokens": 99, "messages": MESSAGES}
GEMINI = f"/v1beta/models/{MODEL}"
WHOLE = {
    "openai": Call("openai", "/v1/chat/completions", CHAT),
    "completions": Call("openai", "/v1/completions", {"model": MODEL, "prompt": "Capital of France?"}),
    "responses": Call("openai", "/v1/responses", {"model": MODEL, "input": "Capital of France?"}),
    "anthropic": Call("anthropic", "/v1/messages", CLAUDE, ANTHROPIC),
    "gemini": Call("gemini", f"{GEMINI}:generateContent", {"contents": CONTENTS}),
    "ollama": Call("ollama", "/api/chat", {**CHAT, "stream": False}),
    "native": Call("openai", "/", {"model": MODEL, "prompt": "Capital of France?"}),
}
STREAMED = {
    "openai": Call("openai", "/v1/chat/completions", {**CHAT, "stream": True}),
    "completions": Call("openai", "/v1/completions", {**WHOLE["completions"].document, "stream": True}),
    "responses": Call("openai", "/v1/responses", {**WHOLE["responses"].document, "stream": True}),
    "anthropic": Call("anthropic", "/v1/messages", {**CLAUDE, "stream": True}, ANTHROPIC),
    "gemini": Call("gemini", f"{GEMINI}:streamGenerateContent?alt=sse", {"contents": CONTENTS}),
    "gemini array": Call("gemini", f"{GEMINI}:streamGenerateContent", {"contents": CONTENTS}),
    "ollama": Call("ollama", "/api/chat", {**CHAT, "stream": True}),
}
CALLS = {**WHOLE, **{f"{name}, streamed": call for name, call in STREAMED.items()}}


async def begin(proxy: ProxyHarness, upstream: FakeProvider, format: Any = "openai", **cache: Any) -> None:
    """Start a proxy that caches, in front of one provider."""
    await proxy.start(providers={"vendor": upstream.provider(format)}, cache={"enabled": True, **cache})


async def ask(
    proxy: ProxyHarness, call: Call = WHOLE["openai"], headers: Mapping[str, str] | None = None, **fields: Any
) -> RawResponse:
    """Make a call on a connection of its own and read the whole answer."""
    return await proxy.request("POST", call.path, {**call.document, **fields}, {**call.headers, **(headers or {})})


async def change(proxy: ProxyHarness, document: dict[str, Any]) -> None:
    """Change the configuration live."""
    answer = await proxy.request("PATCH", "/config", orjson.dumps(document))
    assert answer.status == 200, answer.text


def said(reply: RawResponse) -> tuple[int, str | None, str | None]:
    """Status, `X-Cache` and its reason."""
    return reply.status, reply.header("x-cache"), reply.header("x-cache-reason")


def plugin_of(proxy: ProxyHarness) -> CachePlugin:
    """The living object."""
    plugin = proxy.app.host._slots["cache"].instance.plugin
    assert isinstance(plugin, CachePlugin)
    return plugin


def desk_of(proxy: ProxyHarness) -> Desk:
    """What decides about requests."""
    return plugin_of(proxy)._desk


def store_of(proxy: ProxyHarness) -> MemoryStore:
    """What is kept in memory."""
    return plugin_of(proxy)._store


def not_kept(proxy: ProxyHarness) -> dict[str, int]:
    """Answers that were not kept, by reason."""
    return dict(plugin_of(proxy)._ledger.describe()["notKeptByReason"])


async def until(is_true: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Look again at each turn of the loop until something is so."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                if is_true():
                    return
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


async def until_idle(proxy: ProxyHarness) -> None:
    """Wait until nothing is in work, and see that nothing was left behind."""
    pipeline = proxy.app.pipeline
    await until(lambda: not pipeline.running, "no request in work")
    assert (pipeline.slots.in_use, pipeline.slots.waiting) == (0, 0)
    assert len(desk_of(proxy).flights) == 0


class Crowd:
    """Clients that ask the same at once, each on a connection of its own."""

    def __init__(self, proxy: ProxyHarness) -> None:
        self._proxy = proxy
        self._stack = AsyncExitStack()
        self.clients: list[RawClient] = []

    async def __aenter__(self) -> "Crowd":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def ask(
        self, count: int, call: Call = WHOLE["openai"], headers: Mapping[str, str] | None = None, **fields: Any
    ) -> list[RawClient]:
        """Send a request from each of so many new clients."""
        body = orjson.dumps({**call.document, **fields})
        data = encode_request("POST", call.path, body, {**call.headers, **(headers or {})}, host="127.0.0.1")
        clients = []
        for _ in range(count):
            client = await self._stack.enter_async_context(RawClient(self._proxy.url, timeout_s=30))
            await client.send(data)
            clients.append(client)
        self.clients += clients
        return clients

    async def follow(self, count: int) -> None:
        """Wait until so many requests wait for another's answer, or read it."""
        flights = desk_of(self._proxy).flights
        await until(
            lambda: sum(one.followers for one in flights._under_way.values()) == count, f"{count} who follow a call"
        )


async def read_all(clients: list[RawClient]) -> list[RawResponse]:
    """Read the answer of each."""
    return list(await asyncio.gather(*(client.read_response() for client in clients)))
