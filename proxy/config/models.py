"""The core's settings: every key with type, bounds, default and meaning. A plugin's section is its own model."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.config import JsonDict

from proxy.config.routing_models import (
    ActiveProbeSettings,
    AdaptiveLimit,
    BreakerSettings,
    FailoverSettings,
    HedgingSettings,
    PriceSettings,
)
from proxy.config.store_models import StoreSettings
from proxy.plugin import Section
from proxy.values import Duration, Size, Timeout

RESTART: JsonDict = {"live": False}
"""Marks a key that takes effect only at the next start."""

BUILT_IN_PLUGINS = ("debug", "keys", "rate_limit", "cache", "balancer", "metrics")

ProviderType = Literal["openai", "anthropic", "gemini", "ollama", "http", "echo"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PLUGIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*")
_KEY = re.compile(r"[\x21-\x7e]+")


def check_url(url: str, what: str) -> str:
    """Accept an http or https URL of a host.

    Raises:
        ValueError: anything that could hide where it leads; the URL itself is not repeated, it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{what} is not a URL") from None
    if parts.scheme not in ("http", "https") or "://" not in url:
        raise ValueError(f"{what} must begin with http:// or https://")
    if not parts.hostname or port == 0 or not _KEY.fullmatch(url) or "\\" in url:
        raise ValueError(f"{what} has no valid host and port, or characters that no URL has")
    if "?" in url or "#" in url:
        raise ValueError(f"{what} must not have a query or a fragment")
    return url


def check_key(key: str) -> str:
    """Accept a credential that can stand in a header; the message never repeats it."""
    if not _KEY.fullmatch(key):
        raise ValueError("a key is one line of visible ASCII characters without spaces")
    return key


class ServerSettings(Section):
    """Where it listens and what it takes from clients."""

    host: str = Field("127.0.0.1", description="Address to listen on.", json_schema_extra=RESTART)
    port: int = Field(
        8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one.", json_schema_extra=RESTART
    )
    client_max_size: Size = Field(
        32 << 20, description="Largest request body, in bytes; a larger one gets 413 before it is read."
    )
    header_timeout: Duration = Field(10.0, gt=0, description="Time a client has to send its request headers.")
    body_idle_timeout: Duration = Field(30.0, gt=0, description="Longest silence while a client sends its body.")
    write_timeout: Duration = Field(60.0, gt=0, description="Longest time a client may take none of its response.")
    keep_alive_timeout: Duration = Field(75.0, gt=0, description="How long an idle client connection is kept.")
    max_connections: int = Field(
        10_000, gt=0, description="Client connections at most; beyond it the one that was idle longest gives way."
    )
    drain_timeout: Duration = Field(30.0, description="After SIGTERM: time that running requests have to end.")
    shed_memory_percent: float = Field(
        95.0, gt=0, le=100, description="Of the memory limit: above it new requests get 503, running ones go on."
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description='Web origins whose pages may call the data side, such as "https://app.example"; "*" for any.'
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names, besides loopback ones, under which callers without a token may reach this proxy."
    )


class AdminSettings(Section):
    """Who may read and change the running proxy."""

    token: SecretStr | None = Field(
        None, description="Bearer token of the admin side; without one it answers to loopback only."
    )

    @field_validator("token")
    @classmethod
    def _empty_is_none(cls, token: SecretStr | None) -> SecretStr | None:
        return token if token is not None and token.get_secret_value() else None


class StateSettings(Section):
    """Where the proxy keeps what must survive a restart."""

    dir: str = Field(
        "var",
        description="Folder, relative to the working directory; held by one process at a time.",
        json_schema_extra=RESTART,
    )


class ChangeSettings(Section):
    """How changes of the configuration are kept, watched and taken back."""

    keep: int = Field(100, ge=2, description="Revisions kept in the state folder; the oldest go first.")
    watch_file: bool = Field(True, description="Whether an edit of the configuration file is applied by itself.")
    guard_factor: float = Field(
        1.5,
        gt=1,
        allow_inf_nan=False,
        description="`?guard=`: how many times worse error rate or p95 latency may become before it reverts.",
    )
    guard_min_requests: int = Field(
        20, gt=0, description="`?guard=`: requests in the window below which nothing is concluded."
    )


class TimeoutSettings(Section):
    """Four limits on one call of a provider."""

    connect: Duration = Field(5.0, gt=0, description="Until the connection and its TLS are there.")
    first_byte: Timeout = Field(60.0, description="From the request being sent to the first byte of the response.")
    idle: Timeout = Field(60.0, description="Longest silence between two reads of the response.")
    total: Timeout = Field(None, description="The whole call; none, because long streams are legitimate.")


class TlsSettings(Section):
    """How a provider's certificate is checked."""

    ca_file: str | None = Field(None, description="PEM file of the authorities to trust, instead of the system's.")
    verify: bool = Field(
        True, description="Whether the certificate is checked; switching it off is reported in /health."
    )
    server_name: str | None = Field(None, description="Name to ask for and to check, where it is not the host's.")


class ProviderSettings(Section):
    """One place where requests can go."""

    type: ProviderType = Field(
        description="The wire format it speaks; `http` is any upstream, `echo` answers by itself."
    )
    base_url: str | None = Field(
        None, description="What the vendor's own SDK takes: openai with /v1, the others without a version."
    )
    api_key: SecretStr | None = Field(
        None, description="Credential, usually `${ENV}`; without one the client's own is passed on."
    )
    api_key_file: str | None = Field(
        None,
        description="File that holds the credential, for mounted secrets; re-read at each change of configuration.",
    )
    api_keys: tuple[SecretStr, ...] = Field(
        (), description="Several credentials, used in turn: one that is refused or used up rests while others work."
    )
    models: tuple[str, ...] = Field((), description='Model names it has; "*" and "?" are wildcards.')
    priority: int = Field(0, description="Lower is tried first.")
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="Share among providers of the same priority.")
    enabled: bool = Field(True, description="Whether it is asked at all.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Headers added to every call, such as OpenAI-Organization."
    )
    prices: dict[str, PriceSettings] = Field(
        default_factory=dict, description='What its models cost, by name; "*" and "?" are wildcards, the first fits.'
    )
    max_concurrency: int | None = Field(
        None, gt=0, description="Calls at once; unless given, four fifths of the process's where there are others."
    )
    adaptive_concurrency: AdaptiveLimit = Field(
        "none", description="aimd: calls at once follow the latency, up to `maxConcurrency`; none: a fixed limit."
    )
    queue_size: int = Field(1000, ge=0, description="Calls that may wait for one of `maxConcurrency`.")
    queue_timeout: Duration = Field(10.0, gt=0, description="How long a call may wait for one of `maxConcurrency`.")
    breaker: BreakerSettings | None = Field(None, description="Instead of the top-level `breaker`, wholly.")
    active_probe: ActiveProbeSettings = Field(
        default_factory=ActiveProbeSettings, description="An unbilled call while its circuit is open."
    )
    timeouts: TimeoutSettings = Field(default_factory=TimeoutSettings, description="Limits on one call.")
    tls: TlsSettings = Field(default_factory=TlsSettings, description="How its certificate is checked.")
    proxy: str = Field(
        "env",
        description="HTTP proxy to go through by CONNECT: a URL, `env` (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) or `none`.",
    )
    keep_alive: Duration = Field(30.0, description="How long an idle connection to it is kept; 0 keeps none.")
    max_idle_connections: int = Field(100, ge=0, description="Idle connections kept at most.")
    max_response_header_size: Size = Field(64 << 10, gt=0, description="Largest response head, in bytes.")
    chunk_delay: Duration = Field(0.0, description="echo only: pause between two pieces of a stream.")

    @property
    def has_own_limit(self) -> bool:
        """Whether the operator said how many calls at once it bears, or that this is to be found out."""
        return self.max_concurrency is not None or self.adaptive_concurrency != "none"

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, url: str | None) -> str | None:
        if not url:
            return None
        if "@" in urlsplit(check_url(url, "a baseUrl")).netloc:
            raise ValueError("a baseUrl must not hold a user name or password; use apiKey or headers")
        return url

    @field_validator("api_key")
    @classmethod
    def _api_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None or not key.get_secret_value():
            return None
        check_key(key.get_secret_value())
        return key

    @field_validator("api_keys")
    @classmethod
    def _api_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        texts = [check_key(key.get_secret_value()) for key in keys if key.get_secret_value()]
        if len(set(texts)) < len(texts):
            raise ValueError("a key stands twice")
        return tuple(key for key in keys if key.get_secret_value())

    @field_validator("headers")
    @classmethod
    def _headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError("a header name has letters, digits and '-' only")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"the value of {name} has characters that no header may have")
        return headers

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, proxy: str) -> str:
        return proxy if proxy in ("env", "none") else check_url(proxy, "a proxy other than `env` and `none`")

    @model_validator(mode="after")
    def _complete(self) -> "ProviderSettings":
        if self.type != "echo" and not self.base_url:
            raise ValueError(f"a provider of type {self.type} needs a baseUrl")
        given = (("apiKey", self.api_key), ("apiKeyFile", self.api_key_file), ("apiKeys", self.api_keys))
        names = [name for name, value in given if value]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} are both set; keep one")
        return self


class LogSettings(Section):
    """What the process writes to its error output."""

    level: Literal["debug", "info", "warn", "error"] = Field(
        "info", description="Least important level that is written."
    )
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text on a terminal, JSON lines elsewhere."
    )


class NativeSettings(Section):
    """The native API `POST /`."""

    default_model: str | None = Field(
        None, description="Model for requests that name none; unset: the first provider's first exact name."
    )


class Settings(Section):
    """The whole core configuration; a plugin's section stands beside these keys."""

    server: ServerSettings = Field(default_factory=ServerSettings, description="Where it listens and what it takes.")
    admin: AdminSettings = Field(default_factory=AdminSettings, description="Who may read and change it.")
    state: StateSettings = Field(default_factory=StateSettings, description="Where it keeps what must survive.")
    store: StoreSettings = Field(default_factory=StoreSettings, description="What it shares with other proxies.")
    changes: ChangeSettings = Field(
        default_factory=ChangeSettings, description="How changes are kept, watched and taken back."
    )
    log: LogSettings = Field(default_factory=LogSettings, description="What it writes to its error output.")
    native: NativeSettings = Field(default_factory=NativeSettings, description="The native API.")
    max_concurrency: int = Field(100, gt=0, description="Requests in work at once in the whole process.")
    max_queue: int = Field(1000, ge=0, description="Requests that may wait beyond `maxConcurrency`; more get 503.")
    queue_timeout: Duration = Field(10.0, gt=0, description="How long a request may wait in that queue.")
    priority_header: str = Field(
        "none", description="Header in which clients say high, normal or low, for the queues; none: all are alike."
    )
    enable_fallback_providers: bool = Field(
        True, description="Whether another provider is asked when one fails before any output."
    )
    failover: FailoverSettings = Field(
        default_factory=FailoverSettings, description="When somebody else is asked, and how often."
    )
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings, description="When a failing provider is left alone."
    )
    hedging: HedgingSettings = Field(
        default_factory=HedgingSettings, description="A second attempt when the first is late."
    )
    providers: dict[Name, ProviderSettings] = Field(
        default_factory=lambda: {"echo": ProviderSettings(type="echo", models=("*",), priority=100)},
        description="Where requests can go, by name.",
    )
    models: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Aliases: a name and the `provider/model` targets it stands for, in order."
    )
    plugins: tuple[str, ...] = Field(
        BUILT_IN_PLUGINS,
        description="Plugins to load; the top one is called first: built-in name, entry point or package.module.",
        json_schema_extra=RESTART,
    )

    @field_validator("plugins")
    @classmethod
    def _plugins(cls, plugins: tuple[str, ...]) -> tuple[str, ...]:
        for position, name in enumerate(plugins):
            if not _PLUGIN_NAME.fullmatch(name):
                raise ValueError(f"item {position} is no plugin name")
            if name in plugins[:position]:
                raise ValueError(f"{name} stands twice")
        return plugins
