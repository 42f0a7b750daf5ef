"""Settings of the shared store: which Redis or Valkey, how long it may take, and when it is left alone."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from proxy.plugin import Section
from proxy.values import Duration

Scheme = Literal["redis", "rediss", "unix"]

DEFAULT_PORT: Final = 6379
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_DATABASE: Final = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the server is and as whom it is asked.

    Args:
        host, port: by TCP, with TLS for `rediss`; empty and 0 for `unix`.
        path: of a Unix socket, else empty.
    """

    scheme: Scheme
    host: str
    port: int
    path: str
    database: int
    username: str | None
    password: str | None = field(repr=False)

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        if self.scheme == "unix":
            return f"unix://{self.path}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}"


def parse_address(url: str) -> StoreAddress:
    """Read the URL of a Redis server.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://…` for TLS, `unix:///run/redis.sock?db=0`.
    Raises:
        ValueError: anything else; the URL is not repeated, it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is not a URL; what a password has besides letters and digits is written as %2F") from None
    if parts.scheme not in ("redis", "rediss", "unix") or "://" not in url:
        raise ValueError("it must begin with redis://, rediss:// or unix://, or be none")
    if not _VISIBLE.fullmatch(url) or "\\" in url or "@" in parts.path + parts.query or parts.fragment:
        raise ValueError("it has characters that no such URL has; in a password they are written as %2F")
    is_unix = parts.scheme == "unix"
    if is_unix and (parts.hostname or not parts.path.strip("/")):
        raise ValueError("after unix:// comes the whole path of a socket, such as unix:///run/redis.sock")
    if not is_unix and (not parts.hostname or port == 0):
        raise ValueError("it has no valid host and port")
    return StoreAddress(
        scheme=cast(Scheme, parts.scheme),
        host=parts.hostname or "",
        port=0 if is_unix else port or DEFAULT_PORT,
        path=unquote(parts.path) if is_unix else "",
        database=_database(parts, is_unix=is_unix),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _database(parts: SplitResult, *, is_unix: bool) -> int:
    found = parse_qs(parts.query, keep_blank_values=True)
    if set(found) - {"db"} or (found and not is_unix):
        raise ValueError("it must have no options; only unix:// takes one, ?db=")
    text = found["db"][-1] if found else "" if is_unix else parts.path.strip("/")
    if text and not _DATABASE.fullmatch(text):
        raise ValueError("the number of its database is none")
    return int(text or 0)


class StoreBreakerSettings(Section):
    """When the shared store is left alone for a while."""

    failures: int = Field(3, gt=0, description="Calls in a row that fail before it is left alone.")
    cooldown: Duration = Field(1.0, gt=0, description="Until it is tried again the first time; doubles while it fails.")
    max_cooldown: Duration = Field(10.0, gt=0, description="Longest such time.")


class StoreSettings(Section):
    """What several proxies share: a Redis or Valkey server, for plugins that say so."""

    url: SecretStr | None = Field(
        None,
        description="redis://, rediss:// (TLS) or unix://, with user and password if it wants them; none: memory only.",
    )
    ca_file: str | None = Field(None, description="rediss only: PEM file of the authorities to trust.")
    timeout: Duration = Field(0.05, gt=0, description="How long one call may take, connecting included.")
    prefix: str = Field(
        "switchyard",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$",
        description="What every name in it begins with; proxies that share it have the same.",
    )
    max_connections: int = Field(50, gt=0, description="Connections, and so calls at once; more wait their turn.")
    breaker: StoreBreakerSettings = Field(
        default_factory=StoreBreakerSettings, description="When it is left alone because it fails."
    )

    @property
    def address(self) -> StoreAddress | None:
        """Where it is, None where there is none."""
        return None if self.url is None else parse_address(self.url.get_secret_value())

    @field_validator("url")
    @classmethod
    def _url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or url.get_secret_value() in ("", "none"):
            return None
        parse_address(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def _fits(self) -> "StoreSettings":
        if self.ca_file is not None and self.url is not None and not self.url.get_secret_value().startswith("rediss:"):
            raise ValueError("caFile is for rediss:// only")
        return self
