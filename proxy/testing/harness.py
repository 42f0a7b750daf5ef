"""The proxy in the test's own process and event loop, on a real socket, with its configuration as keyword arguments."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
from pydantic.alias_generators import to_camel

from proxy.app import App
from proxy.config.loader import document_of
from proxy.events import Events
from proxy.exchange import JsonObject
from proxy.reload.prepare import Prepared, prepare, prepare_file
from proxy.testing.fake_provider import FakeProvider
from proxy.testing.raw_client import RawClient, RawResponse


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back for a chat completion; `text` is empty where there was none."""

    text: str
    response: RawResponse

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    def header(self, name: str) -> str | None:
        """Find the first header of this name, in any case."""
        return self.response.header(name)


class ProxyHarness:
    """Starts the proxy with what a test configures, and asks it.

    Args:
        upstream: where all models go unless `start` is given `providers`; without it there is only echo.
        environ: what `${NAME}` in the configuration sees.
        has_file: the configuration is written to a file, which is watched.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        upstream: FakeProvider | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        has_file: bool = False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._upstream = upstream
        self._environ = dict(environ or {})
        self._has_file = has_file
        self._wall_clock = wall_clock
        self._config: JsonObject = {}
        self._folder = tempfile.TemporaryDirectory(prefix="switchyard-test-")
        self._app: App | None = None
        self.events = Events()
        """What the proxy reports; `events.recent()` lists it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def app(self) -> App:
        """The running proxy."""
        if self._app is None:
            raise RuntimeError("the proxy has not been started")
        return self._app

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.app.url

    async def start(self, **sections: Any) -> None:  # Any: the configuration, of whatever shape
        """Start it on a free port; a second time, after `stop`, with the state it left.

        Args:
            sections: top-level keys, as `cache={"enabled": True}`, `max_concurrency=3`; inner keys in camelCase.
        Raises:
            ConfigError: the configuration is not valid.
        """
        self.write(**sections)
        await self.restart()

    def write(self, **sections: Any) -> None:  # Any: as in `start`
        """Set the configuration for the next start; with a file, write it in one step, as an editor does."""
        config: JsonObject = {to_camel(key): value for key, value in sections.items()}
        config["state"] = {"dir": str(self.state_path), **config.get("state", {})}
        if self._upstream is not None:
            config.setdefault("providers", {"fake": self._upstream.provider()})
        self._config = config
        if self._has_file:
            draft = self.config_path.with_suffix(".new")
            draft.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))  # JSON is YAML
            draft.rename(self.config_path)

    async def restart(self) -> None:
        """Stop it if it runs, and start it anew."""
        await self.stop()
        file = self.config_path if self._has_file else None
        prepared = self.prepared()
        self._app = await App.begin(prepared, file=file, port=0, events=self.events, wall_clock=self._wall_clock)

    def prepared(self) -> Prepared:
        """Validate the configuration for the next start."""
        if self._has_file:
            return prepare_file(self.config_path, self._environ)
        return prepare(document_of(self._config, self._environ, source="test"), self._environ)

    @property
    def config_path(self) -> Path:
        """Where the configuration file is, if there is one."""
        return Path(self._folder.name) / "proxy.yaml"

    @property
    def state_path(self) -> Path:
        """The state folder."""
        return Path(self._folder.name) / "state"

    async def stop(self) -> None:
        """Stop it; its state stays."""
        app, self._app = self._app, None
        if app is not None:
            await app.stop()

    async def close(self) -> None:
        """Stop it and remove its state."""
        await self.stop()
        self._folder.cleanup()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> RawResponse:
        """Send a request on a connection of its own and read the whole response."""
        content = orjson.dumps(body) if isinstance(body, dict) else body
        async with RawClient(self.url) as client:
            return await client.request(method, path, content, headers)

    async def chat(
        self,
        prompt: str,
        *,
        model: str = "fake-model",
        headers: Mapping[str, str] | None = None,
        **fields: Any,  # Any: whatever the API takes
    ) -> ChatReply:
        """Ask for a chat completion in OpenAI's format; `stream=True` gives the joined text too."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}
        response = await self.request("POST", "/v1/chat/completions", body, headers)
        text = _streamed_text(response) if fields.get("stream") else _whole_text(response)
        return ChatReply(text, response)


def _whole_text(response: RawResponse) -> str:
    if response.status != 200:
        return ""
    document: JsonObject = orjson.loads(response.body)
    return document["choices"][0]["message"]["content"] or ""


def _streamed_text(response: RawResponse) -> str:
    lines = (line.removeprefix(b"data: ") for line in response.body.split(b"\n") if line.startswith(b"data: {"))
    deltas = (choice["delta"] for line in lines for choice in orjson.loads(line).get("choices", []))
    return "".join(delta.get("content") or "" for delta in deltas)
