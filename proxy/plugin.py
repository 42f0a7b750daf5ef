"""What a plugin is made of: its config model, its base class, what it is given, and what it gives back."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from proxy.callers import Identity
from proxy.events import Events
from proxy.exchange import Audience, Candidate, Exchange, Reply
from proxy.metrics import Registry
from proxy.store import SharedStore
from proxy.values import printable

if TYPE_CHECKING:
    from loguru import Logger

MAX_AUTHOR_LENGTH: Final = 100


class Section(BaseModel):
    """Base of every configuration model: strict about unknown keys, frozen, camelCase outside, snake_case inside."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, validate_default=True, populate_by_name=False
    )


class PluginConfig(Section):
    """Base of a plugin's section; `enabled` comes first and switches the plugin live."""

    enabled: bool = Field(True, description="Whether the plugin takes part in requests.")


ConfigT = TypeVar("ConfigT", bound=PluginConfig)


class Spawn(Protocol):
    """Starts background work owned by the plugin; cancelled when the plugin stops."""

    def __call__(self, coro: Coroutine[Any, Any, object], *, name: str) -> "asyncio.Task[Any]": ...


def nothing_shared() -> SharedStore | None:
    """Say that no shared store is configured."""
    return None


class Imagine(Protocol):
    """Makes the exchange that a request would be, for those who want to know what would become of it."""

    def __call__(self, method: str, target: str, headers: Mapping[str, str], body: bytes, peer: str) -> Exchange:
        """Read a request.

        Args:
            target: path and query.
        Raises:
            ProxyError: it would be refused; not for its sender or its size, which are not looked at.
        """
        ...


@dataclass(frozen=True, slots=True)
class Machinery:
    """What all plugins get of the proxy.

    Args:
        clock: monotonic seconds.
        wall_clock: seconds since 1970.
        metrics: the process's registry; names are prefixed with `proxy_` at exposition. What a gauge reads is
            forgotten when the object ends.
        events: for people: logs, `tail` and alerts read them.
        log: loguru logger bound to the plugin's name; secrets are removed at the sink.
        state_dir: the folder of what must survive a restart; it exists, and nothing is written anywhere else.
        targets: lists who could answer an exchange, aliases resolved, before any choice is made; it may name the
            model of a request that names none. Raises ProxyError when nobody can.
        rearrange: makes a recorded whole body the answer to an exchange, in the manner (stream or not) that it asks for
            and with what is the exchange's own; None if that cannot be done exactly.
        calls_tool: tells whether a recorded whole body, an answer to this exchange, calls a tool; in doubt, yes.
        imagine: makes the exchange that a request would be, of whom it would be recognised as.
        identify: tells whom a caller would be recognised as, by a credential (True) or by a name or id (False); None:
            nobody knows it. For operators who ask.
        give_back: returns what was freed to the system, 170 ms for each GB; after much was let go of at once.
        refresh: asks in the background what an exchange asked, for an audience alone; False if there is no room, or the
            configuration is another one meanwhile.
        store: gives what several proxies share (section `store`), None where there is none. Ask at each use: it is
            replaced when its settings change.
    """

    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    metrics: Registry
    events: Events
    log: "Logger"
    state_dir: Path
    targets: Callable[[Exchange], Sequence[Candidate]]
    refresh: Callable[[Exchange, Audience], bool]
    rearrange: Callable[[Exchange, bytes], Reply | None]
    calls_tool: Callable[[Exchange, bytes], bool]
    give_back: Callable[[], None]
    imagine: Imagine
    identify: Callable[[str, bool], Identity | None]
    store: Callable[[], SharedStore | None] = nothing_shared


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginContext(Machinery):
    """All that a plugin gets from the machinery.

    Args:
        spawn: starts background work; the only way to do so. Raises RuntimeError once the plugin's object has ended.
    """

    spawn: Spawn


class Plugin(Generic[ConfigT]):
    """Base of every plugin. The hooks of `proxy.hookspecs` that it implements carry `@hookimpl`.

    A plugin whose file holds several Plugin subclasses is not loaded: one file, one plugin.
    """

    name: ClassVar[str]
    """snake_case; the section is the same in camelCase."""
    on_failure: ClassVar[Literal["open", "closed"]] = "open"
    """What a failing request hook means: `open`, the request goes on without it; `closed`, 503 `plugin_failed`."""
    ends_noted_only: ClassVar[bool] = False
    """`post_response` is called for exchanges only of which the plugin has a note under its name, and for those asked
    in the background; the others cost nothing."""

    def __init__(self, config: ConfigT, context: PluginContext) -> None:
        """Keep the two; nothing is opened or started before `startup`."""
        self.config = config
        self.context = context

    def skips(self) -> Collection[str]:
        """Name the hooks that have nothing to do under this configuration; they cost nothing then."""
        return ()


Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Issue:
    """Something about the configuration that an operator should look at; it works all the same.

    Args:
        kind: stable, snake_case, such as `debug_left_on`.
        severity: `error`: requests fail or will; `warning`: it will bite; `info`: worth knowing.
        path: dotted path of the setting, empty where it is about no single one.
        message: what is wrong, with the value found; never a secret.
        why: what comes of it.
        patch: merge patch (RFC 7396) for `PATCH /config` that mends it, None where no patch can.
        command: what to type where no patch can mend it, such as `chmod 600 conf/proxy.yaml`.
    """

    kind: str
    severity: Severity
    path: str
    message: str
    why: str
    patch: dict[str, Any] | None = None  # Any: JSON
    command: str | None = None


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """An admin call as a plugin sees it, already past the guard.

    Args:
        params: what `{name}` parts of the path stood for.
        query: query parameters, the last of each name.
        body: parsed JSON, None if there was none.
        headers: names in lower case.
        peer: address of the TCP peer.
        is_trusted: the caller has shown the token; false where none is configured.
    """

    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    body: Any  # Any: the caller's JSON
    headers: dict[str, str]
    peer: str = ""
    is_trusted: bool = False

    def said(self, name: str, limit: int) -> str:
        """Read what people wrote into a header, UTF-8, as one line of at most so many characters."""
        return printable(self.headers.get(name, "").encode("latin-1").decode("utf-8", "replace").strip(), limit)

    @property
    def author(self) -> str:
        """Who makes the call: by its own word (`X-Author`), else by its address."""
        return self.said("x-author", MAX_AUTHOR_LENGTH) or self.peer or "unknown"


@dataclass(frozen=True, slots=True)
class AdminReply:
    """An admin answer that is more than JSON with status 200."""

    body: object
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


AdminHandler = Callable[[AdminRequest], Awaitable[object]]
"""Takes the call, returns an AdminReply or what is to be sent as JSON (camelCase keys)."""


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """A path under which a plugin, or the core, answers operators.

    Args:
        path: such as `/cache/status` or `/trace/{id}`.
        handler: takes an AdminRequest, or nothing.
        summary: one line for the API description.
        policy: who may call it: `admin` (loopback or token) or `public` (no guard, shows nothing that matters).
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[object]]
    summary: str
    policy: Literal["admin", "public"] = "admin"
