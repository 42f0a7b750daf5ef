"""Wires the parts together: the only place that knows them all."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger

from proxy.callers import Identity
from proxy.config.credentials import credentials
from proxy.config.environment import proxy_for
from proxy.config.history import History
from proxy.config.issues import Facts, find_issues
from proxy.config.loader import Loaded
from proxy.config.models import ServerSettings
from proxy.config.proposal import Proposer
from proxy.config.restore import Restored, restore
from proxy.config.revisions import Revision
from proxy.config.secrets import SecretStore, secret_values
from proxy.config.state import StateFolder
from proxy.errors import AddressUnusable, ConfigError, Fault
from proxy.events import Events
from proxy.exchange import Audience, Candidate, Exchange, JsonObject
from proxy.formats.replies import calls_tool, rearranged
from proxy.host.loader import config_models
from proxy.host.manager import PluginHost
from proxy.logs import Logs
from proxy.metrics import Registry
from proxy.pipeline import Pipeline
from proxy.plugin import AdminRequest, AdminRoute, Issue, Machinery
from proxy.reload.configuration import Configuration
from proxy.reload.file import ConfigFile
from proxy.reload.generation import Ingredients, build
from proxy.reload.prepare import Prepared, plugins_of
from proxy.reload.record import Record
from proxy.reload.swap import Swapper
from proxy.reload.vitals import Vitals
from proxy.server.admin import AdminSide, AdminTable
from proxy.server.config_routes import ConfigRoutes
from proxy.server.connection import ConnectionServer, ServerProtocol
from proxy.server.data import DataSide
from proxy.server.deployment_routes import DeploymentRoutes
from proxy.server.files import room_for_clients
from proxy.server.front import Front
from proxy.server.guard import Guard
from proxy.server.heap import give_back
from proxy.server.inflight_routes import InflightRoutes
from proxy.server.listening import listen
from proxy.server.memory import Memory
from proxy.server.orders import Answers
from proxy.server.provider_routes import ProviderRoutes
from proxy.server.status import State, Status
from proxy.shared.stores import SharedStores
from proxy.tasks import Tasks


class App:
    """One proxy in this process: made, started, stopped once. Takes the state folder when it is made.

    Args:
        prepared: the configuration file, valid by itself; live changes of earlier processes go over it.
        file: where it was read, to be read again when it is edited; None if it came from elsewhere.
        host, port: from the command line; they go before the configuration's.
        events: where events go; logs and plugins read them.
        logs: follow `log` when it changes.
        wall_clock: seconds since 1970.
        failure: why it could not start with the live changes, which are set aside; see `begin`.
    Raises:
        ConfigError: a plugin, credential or CA file cannot be used, or the state folder is held by another process
            or cannot be written.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        file: Path | None = None,
        host: str | None = None,
        port: int | None = None,
        events: Events | None = None,
        logs: Logs | None = None,
        wall_clock: Callable[[], float] = time.time,
        failure: ConfigError | None = None,
    ) -> None:
        self._failure = failure
        self.events = events or Events()
        self.metrics = Registry()
        self.tasks = Tasks(self.events)
        self._redactor = prepared.redactor
        self._environ = prepared.environ
        self._file_path, self._file_content = file, prepared.content
        self._given = host, port
        self._logs = logs
        self._wall_clock = wall_clock
        self._asked_to_stop = asyncio.Event()
        self.restarts = False
        """Whether the process is to be started anew when this one has ended."""
        self._state = StateFolder(Path(prepared.loaded.settings.state.dir))
        try:
            self._make_core(prepared)
            self._make_server()
        except BaseException:
            self._state.close()
            raise

    def _make_core(self, prepared: Prepared) -> None:
        """Make all that carries requests and owns the configuration."""
        proposer = Proposer(prepared.environ, lambda document: config_models(plugins_of(document)), self._given[0])
        history = History(self._state.path)
        restored, store, newest = self._restore(prepared, history, proposer)
        loaded = restored.standing.loaded
        settings = self.settings = loaded.settings
        """Those the process started with; what needs a restart is read from here."""
        self._host, self._port = self._address(settings.server)
        self._has_live_address = (self._host, self._port) != self._address(prepared.loaded.settings.server)
        self._redactor.register(*secret_values(loaded))
        clock = time.monotonic
        self.stores = SharedStores(self.metrics, self.events, self.tasks, clock)
        self.plugins = plugins_of(loaded.document)
        self.host = PluginHost(self.plugins, loaded.sections, self._machinery(clock))
        ingredients = Ingredients(
            credentials, lambda url, setting: proxy_for(url, setting, self._environ), self.metrics, clock
        )
        self.pipeline = Pipeline(
            build(restored.standing.revision, settings, self.host, ingredients),
            metrics=self.metrics,
            events=self.events,
            tasks=self.tasks,
            redactor=self._redactor,
            clock=clock,
            wall_clock=self._wall_clock,
        )
        record = Record(history, self.events, self._wall_clock)
        self._vitals = Vitals(self.pipeline.totals, clock)
        self.configuration = Configuration(
            restored.standing,
            record=record,
            store=store,
            proposer=proposer,
            swapper=Swapper(self.pipeline, self.host, ingredients, self._make_ready),
            vitals=self._vitals,
            redactor=self._redactor,
            events=self.events,
            tasks=self.tasks,
            wall_clock=self._wall_clock,
        )
        record.know(prepared.loaded.shape)
        self._to_write: Callable[[], None] | None = partial(record.begin, restored, store, newest)

    def _machinery(self, clock: Callable[[], float]) -> Machinery:
        """Give what plugins are given; the pipeline is made after them."""
        return Machinery(
            clock=clock,
            wall_clock=self._wall_clock,
            metrics=self.metrics,
            events=self.events,
            log=logger,
            state_dir=self._state.path,
            targets=self._targets,
            refresh=self._refresh,
            rearrange=rearranged,
            calls_tool=calls_tool,
            give_back=give_back,
            imagine=self._imagine,
            identify=self._identify,
            store=self.stores.current,
        )

    def _targets(self, exchange: Exchange) -> Sequence[Candidate]:
        return self.pipeline.targets(exchange)

    def _imagine(self, method: str, target: str, headers: Mapping[str, str], body: bytes, peer: str) -> Exchange:
        exchange = self._data.imagine(method, target, headers, body, peer)
        exchange.identity = None if exchange.caller is None else self._identify(exchange.caller, True)
        return exchange

    def _identify(self, text: str, is_credential: bool) -> Identity | None:
        return self.host.identify(text, is_credential)

    def _refresh(self, exchange: Exchange, audience: Audience) -> bool:
        return self.pipeline.refresh(exchange, audience)

    def _address(self, server: ServerSettings) -> tuple[str, int]:
        """Tell where to listen by some settings; the command line goes before them."""
        host, port = self._given
        return server.host if host is None else host, server.port if port is None else port

    def _make_server(self) -> None:
        """Make what listens and answers."""
        clock = time.monotonic
        self.file = self._config_file()
        self.state = State(started_s=clock())
        self._guard = Guard(self.settings)
        self.memory = Memory(lambda: self._now.shed_memory_percent, self.events, clock=clock)
        """What is left of it, and whom that keeps out."""
        self._core_routes = self._routes(clock)
        self._data = DataSide(self.pipeline, self.memory, lambda: self._guard, clock)
        self._admin = AdminSide(AdminTable([*self._core_routes, *self.host.admin_routes()]), self.events)
        self._server = ConnectionServer(
            Front(self._data, self._admin, lambda: self._guard),
            header_timeout_s=lambda: self._now.header_timeout,
            max_connections=self._max_connections,
            keep_alive_s=lambda: self._now.keep_alive_timeout,
            goes_on=self.pipeline.goes_on,
            events=self.events,
        )
        self._listeners: Sequence[asyncio.Server] = ()

    def _restore(
        self, prepared: Prepared, history: History, proposer: Proposer
    ) -> tuple[Restored, SecretStore, Revision | None]:
        try:
            newest, store = history.open()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            message = f"the revisions in state.dir {self._state.path} cannot be read: {reason}"
            raise ConfigError(message, [Fault("state.dir", message)]) from error
        now_s = self._wall_clock()
        restored = restore(
            prepared.loaded,
            newest,
            store,
            proposer,
            number=history.next_number,
            now_s=now_s,
            failure=self._failure,
        )
        return restored, store, newest

    def _config_file(self) -> ConfigFile | None:
        if self._file_path is None:
            return None
        return ConfigFile(
            self._file_path,
            self._environ,
            self.configuration,
            content=self._file_content,
            is_watched=lambda: self.pipeline.generation.settings.changes.watch_file,
            events=self.events,
        )

    def _routes(self, clock: Callable[[], float]) -> list[AdminRoute]:
        answers = Answers(self._issues, self.settings, lambda: self.url)
        status = Status(
            self.pipeline,
            self.state,
            self.configuration,
            answers,
            self.memory,
            lambda: self._server,
            self.stores.problem,
            clock=clock,
            is_admin=self._is_admin,
        )
        return [
            *status.routes(),
            *ProviderRoutes(self.pipeline, self.configuration, answers).routes(),
            *InflightRoutes(self.pipeline).routes(),
            *ConfigRoutes(self.configuration, answers, self._wall_clock, self._forget).routes(),
            *DeploymentRoutes(self.configuration, answers, lambda: self.file, self.restart).routes(),
        ]

    async def _forget(self, by: str) -> JsonObject:
        """Forget what was learned, counted and kept of requests."""
        plugins = await self.host.reset()
        return {**self.pipeline.overview.forget(by), **({"plugins": plugins} if plugins else {})}

    def _max_connections(self) -> int:
        """Clients' connections at most: those that are configured, as far as there are files for them."""
        return min(self._now.max_connections, room_for_clients(self.pipeline.slots.limit or 0))

    async def _make_ready(self, loaded: Loaded, routes: Sequence[AdminRoute]) -> Callable[[], None]:
        """Make what the app owns ready for another revision; see `reload.swap`."""
        guard = Guard(loaded.settings)
        table = AdminTable([*self._core_routes, *routes])
        share = await self.stores.prepare(loaded.settings.store)

        def put_in_force() -> None:
            self._guard = guard
            self._admin.table = table
            share()
            if self._logs is not None:
                self._logs.follow(loaded.settings.log)

        return put_in_force

    @property
    def _now(self) -> ServerSettings:
        return self.pipeline.generation.settings.server

    @classmethod
    async def begin(cls, prepared: Prepared, **options: Any) -> "App":  # Any: the options of the constructor
        """Make a proxy and start it. Where live changes keep it from starting, the file alone must do.

        Raises:
            ConfigError: it does not start with the file alone either; the live changes are as they were.
        """
        app: App | None = None
        try:
            app = cls(prepared, **options)
            return await app._started()
        except AddressUnusable as error:
            if app is None or not app._has_live_address:
                raise  # another process has the file's own address, perhaps for a moment only
            failure: ConfigError = error
        except ConfigError as error:
            failure = error
        return await cls(prepared, **options, failure=failure)._started()

    async def _started(self) -> "App":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Reach for the shared store, start the plugins, listen.

        Raises:
            ConfigError: a plugin failed in `startup`, or the CA file of the store cannot be read.
            AddressUnusable: the address cannot be bound.
        """
        share = await self.stores.prepare(self.settings.store)
        share()
        await self.host.start()
        try:
            self._listeners = await listen(self._server, self._host, self._port)
        except OSError as error:
            # the loop's own text repeats the address; of names that cannot be resolved it has the only one
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            message = f"cannot listen on {self._host}:{self._port}: {reason.lower()}"
            raise AddressUnusable(message, [Fault("server.port", message)]) from error
        if self._to_write is not None:  # nobody has been answered yet, and nothing can fail any more
            self._to_write()
            self._to_write = None
        self.state.is_ready = True
        self._vitals.start()
        self.memory.start()
        self.configuration.start()
        if self.file is not None:
            self.tasks.spawn(self.file.watch(), name="watch of the configuration file")
        try:
            self._state.publish(self.url)
        except OSError as error:  # only the command line needs it, and takes --url
            self.events.emit(
                "WARN", "address_unwritten", f"the address cannot be written to {self._state.path}: {error}"
            )

    @property
    def url(self) -> str:
        """Where it listens, as a URL."""
        if not self._listeners:
            raise RuntimeError("the proxy has not been started")
        host, port = self._listeners[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def routes(self) -> tuple[AdminRoute, ...]:
        """All admin routes, the core's and the plugins'."""
        return self._admin.table.routes

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
        for listener in self._listeners:
            listener.close()
        self._server.close()
        self.pipeline.end_all()
        await self._server.shutdown(0.5)
        await self.configuration.close()
        self._vitals.stop()
        self.memory.stop()
        await self.host.stop()
        await self.stores.close()
        await self.pipeline.generation.close()
        await self.tasks.close()
        self._state.close()

    async def serve(self) -> int:
        """Run until SIGTERM, SIGINT or `restart`, then drain; a second signal ends it at once. Returns the exit code.

        SIGHUP reads the configuration file again.
        """
        loop = asyncio.get_running_loop()
        asked, hurried = self._asked_to_stop, asyncio.Event()

        def stop_asked() -> None:
            self.restarts = False  # who asks for an end does not want another beginning
            (hurried if asked.is_set() else asked).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop_asked)
        loop.add_signal_handler(signal.SIGHUP, self._read_file_again)
        await asked.wait()
        limit_s = self._now.drain_timeout
        self.events.emit("INFO", "draining", f"draining: {self.pipeline.in_flight} requests have {limit_s:g} s to end")
        draining = self.tasks.spawn(self.drain(limit_s), name="drain")
        hurrying = self.tasks.spawn(hurried.wait(), name="second signal")
        await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
        is_clean = draining.done() and draining.result()
        if not is_clean:
            self.events.emit("WARN", "drain_cut", f"cutting {self.pipeline.in_flight} requests")
        await self.stop()
        return 0 if is_clean else 1

    def restart(self) -> None:
        """Let running requests end, then end so that the process can be started anew."""
        self.restarts = True
        self._asked_to_stop.set()

    def _read_file_again(self) -> None:
        if self.file is not None:
            self.tasks.spawn(self.file.apply_edit("SIGHUP"), name="SIGHUP")

    # -- for the admin side ------------------------------------------------------------------------------------------

    async def _issues(self, loaded: Loaded) -> list[Issue]:
        configuration = self.configuration
        facts = Facts(
            loaded=loaded,
            running=self.settings,
            base=configuration.standing.base,
            file=self._file_path,
            plugins=[plugin.name for plugin in self.plugins],
            troubles=tuple(configuration.record.troubles.values()),
            told=self.host.issues(),
        )
        return await asyncio.to_thread(find_issues, facts)  # it asks the disk who may read files

    def _is_admin(self, request: AdminRequest) -> bool:
        fields = {name.encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}
        return self._guard.is_admin(request.peer, fields)
