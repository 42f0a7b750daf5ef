"""Wires the parts together: the only place that knows them all."""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loguru import logger

from proxy.config.credentials import credential
from proxy.config.environment import proxy_for
from proxy.config.export import export
from proxy.config.loader import Document, Loaded, plugin_names, read, validate
from proxy.config.secrets import SecretStore, secret_values
from proxy.errors import ConfigError, Fault
from proxy.events import Events
from proxy.exchange import JsonObject
from proxy.host.loader import LoadedPlugin, config_models, load
from proxy.host.manager import Machinery, PluginHost
from proxy.metrics import Registry
from proxy.pipeline import Pipeline
from proxy.plugin import AdminRequest
from proxy.redaction import Redactor
from proxy.reload.generation import Ingredients, build
from proxy.server.admin import AdminSide, AdminTable
from proxy.server.connection import ConnectionServer, ServerProtocol
from proxy.server.data import DataSide
from proxy.server.front import Front
from proxy.server.guard import Guard
from proxy.server.status import State, Status
from proxy.tasks import Tasks

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """A validated configuration with the plugins it names; nothing has been opened yet."""

    loaded: Loaded
    plugins: tuple[LoadedPlugin, ...]
    environ: Mapping[str, str]
    redactor: Redactor
    """Knows every secret of the configuration."""


def prepare(document: Document, environ: Mapping[str, str], host: str | None = None) -> Prepared:
    """Load the plugins a document names and validate all of it.

    Raises:
        ConfigError: with everything that is wrong.
    """
    plugins = load(plugin_names(document))
    loaded = validate(document, config_models(plugins), host=host)
    return Prepared(loaded, plugins, environ, Redactor(secret_values(loaded)))


def prepare_file(path: Path, environ: Mapping[str, str], host: str | None = None) -> Prepared:
    """Read a file and prepare it; see `prepare`."""
    return prepare(read(path, environ), environ, host)


class App:
    """One proxy in this process: made, started, stopped once.

    Args:
        host, port: from the command line; they go before the configuration's.
        events: where events go; logs and plugins read them.
    Raises:
        ConfigError: a plugin, credential or CA file cannot be used.
    """

    def __init__(
        self, prepared: Prepared, *, host: str | None = None, port: int | None = None, events: Events | None = None
    ) -> None:
        settings = prepared.loaded.settings
        self.settings = settings
        self.events = events or Events()
        self.metrics = Registry()
        self.tasks = Tasks(self.events)
        self.plugins = prepared.plugins
        self._loaded = prepared.loaded
        self._secrets = SecretStore()
        self._host = host if host is not None else settings.server.host
        self._port = port if port is not None else settings.server.port
        clock = time.monotonic
        machinery = Machinery(clock, time.time, self.metrics, self.events, logger)
        self.host = PluginHost(prepared.plugins, prepared.loaded.sections, machinery)
        ingredients = Ingredients(
            credential, lambda url, setting: proxy_for(url, setting, prepared.environ), self.metrics, clock
        )
        generation = build(1, settings, self.host, ingredients)
        self.pipeline = Pipeline(
            generation,
            metrics=self.metrics,
            events=self.events,
            tasks=self.tasks,
            redactor=prepared.redactor,
            clock=clock,
        )
        self.state = State(started_s=clock())
        self._guard = Guard(settings)
        status = Status(self.pipeline, self.state, clock=clock, show_config=self._show_config, is_admin=self._is_admin)
        table = AdminTable([*status.routes(), *self.host.admin_routes()])
        self._data = DataSide(self.pipeline, lambda: self._guard, clock)
        front = Front(self._data, AdminSide(table, self.events), lambda: self._guard)
        server = settings.server
        self._server = ConnectionServer(
            front,
            header_timeout_s=lambda: server.header_timeout,
            max_connections=lambda: server.max_connections,
            keep_alive_s=server.keep_alive_timeout,
            events=self.events,
        )
        self._listener: asyncio.Server | None = None
        self._lock: IO[str] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the state folder, start the plugins, listen.

        Raises:
            ConfigError: the state folder is held by another process or cannot be written, the address cannot be
                bound, or a plugin failed in `startup`.
        """
        self._lock = lock_state(Path(self.settings.state.dir))
        await self.host.start()
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(self._server, self._host, self._port, backlog=BACKLOG)
        except OSError as error:
            await self.host.stop()
            # the loop's own text repeats the address; of names that cannot be resolved it has the only one
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            message = f"cannot listen on {self._host}:{self._port}: {reason.lower()}"
            raise ConfigError(message, [Fault("server.port", message)]) from error
        self.state.is_ready = True

    @property
    def url(self) -> str:
        """Where it listens, as a URL."""
        if self._listener is None:
            raise RuntimeError("the proxy has not been started")
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def connections(self) -> list[ServerProtocol]:
        """The clients' connections that are open now."""
        return [one for one in self._server.connections if isinstance(one, ServerProtocol)]

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and let running ones end; True when all did within the time.

        It still listens meanwhile, so that `/readyz` can tell 503 to who asks.
        """
        self.state.is_draining = self._data.is_draining = True
        self._server.pre_shutdown()
        try:
            async with asyncio.timeout(timeout_s):
                await self._server.emptied()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End everything; requests still running are cut."""
        self.state.is_draining = True
        if self._listener is not None:
            self._listener.close()
        self._server.close()
        await self._server.shutdown(0.5)
        await self.host.stop()
        await self.pipeline.generation.close()
        await self.tasks.close()
        if self._lock is not None:
            self._lock.close()

    async def serve(self) -> int:
        """Run until SIGTERM or SIGINT, then drain; a second signal ends it at once. Returns the exit code."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        hurried = asyncio.Event()

        def stop_asked() -> None:
            (hurried if asked.is_set() else asked).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop_asked)
        await asked.wait()
        limit_s = self.settings.server.drain_timeout
        self.events.emit("INFO", "draining", f"draining: {self.pipeline.in_flight} requests have {limit_s:g} s to end")
        draining = self.tasks.spawn(self.drain(limit_s), name="drain")
        hurrying = self.tasks.spawn(hurried.wait(), name="second signal")
        await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
        is_clean = draining.done() and draining.result()
        if not is_clean:
            self.events.emit("WARN", "drain_cut", f"cutting {self.pipeline.in_flight} requests")
        await self.stop()
        return 0 if is_clean else 1

    # -- for the admin side ------------------------------------------------------------------------------------------

    def _show_config(self) -> JsonObject:
        return export(self._loaded, self._secrets, revision=self.pipeline.generation.revision, time_s=time.time())

    def _is_admin(self, request: AdminRequest) -> bool:
        fields = {name.encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}
        return self._guard.is_admin(request.peer, fields)


def lock_state(folder: Path) -> IO[str]:
    """Make the state folder and hold it for this process until the file is closed.

    Raises:
        ConfigError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        message = f"state.dir {folder} cannot be used: {(error.strerror or str(error)).lower()}"
        raise ConfigError(message, [Fault("state.dir", message)]) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        message = f"state.dir {folder} is held by another running proxy; give this one a folder of its own"
        raise ConfigError(message, [Fault("state.dir", message)]) from error
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
