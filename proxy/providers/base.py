"""What the pipeline knows of a provider: the format it speaks, the path and credential of a call, or its own answer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from urllib.parse import urlsplit

from proxy.config.models import ProviderSettings
from proxy.exchange import Exchange, Operation, RawHeaders, Reply, Request
from proxy.formats.base import Format

DEFAULT_PORTS = {"http": 80, "https": 443}


class Provider:
    """One configured place where requests can go; immutable for the life of a revision."""

    format: Format | None = None
    """The wire format it speaks; None: relayed untouched only, or (echo) every format."""

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self.name = name
        self.settings = settings

    def speaks(self, format_name: str) -> bool:
        """Tell whether requests of this format can be sent to it as they are."""
        return self.format is not None and self.format.name == format_name

    def is_same_as(self, other: "Provider") -> bool:
        """Tell whether another revision's provider of this name does just the same."""
        return self.settings == other.settings


class LocalProvider(Provider, ABC):
    """A provider that answers inside this process."""

    @abstractmethod
    def answer(self, exchange: Exchange) -> Reply:
        """Answer a request; quick, because it runs on the loop. Raises ClientError for what it does not serve."""


class RemoteProvider(Provider, ABC):
    """A provider behind HTTP.

    Args:
        credentials: the keys held for it; none: the client's own is passed on.
    """

    def __init__(self, name: str, settings: ProviderSettings, credentials: Sequence[str]) -> None:
        super().__init__(name, settings)
        url = urlsplit(settings.base_url or "")
        self.scheme = url.scheme
        self.host = url.hostname or ""
        self.port = url.port or DEFAULT_PORTS.get(url.scheme, 80)
        self.prefix = url.path.rstrip("/").encode("ascii")
        bare = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == DEFAULT_PORTS.get(url.scheme)
        self.host_header = (bare if is_default else f"{bare}:{self.port}").encode("ascii")
        self.credentials = tuple(credentials)
        self.has_credential = bool(credentials)
        extra = [(key.encode("ascii"), value.encode("latin-1")) for key, value in settings.headers.items()]
        self._extra = extra
        self._own = {key: [*extra, *self.credential_headers(key, ())] for key in credentials}

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what a credential is bound to."""
        return self.scheme, self.host, self.port

    def is_same_as(self, other: Provider) -> bool:
        """Tell whether another revision's provider of this name does just the same, with the same keys."""
        return super().is_same_as(other) and isinstance(other, RemoteProvider) and self.credentials == other.credentials

    def own_headers(
        self, credential: str | None, client_key: str | None, client_headers: RawHeaders
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers this proxy adds: configured ones and the credential.

        Args:
            credential: which of `credentials`, or one of a later revision; None where there is none.
            client_key: the client's own key, where it may be passed to this provider; None otherwise.
            client_headers: for credentials whose form follows the client's.
        """
        if credential is not None:
            known = self._own.get(credential)
            return [*self._extra, *self.credential_headers(credential, ())] if known is None else known
        if client_key is None or self.has_credential:
            return self._extra
        return [*self._extra, *self.credential_headers(client_key, client_headers)]

    @abstractmethod
    def credential_headers(self, key: str, client_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the headers that carry a key to this vendor."""

    def target(self, path: bytes, query: bytes) -> bytes:
        """Return the request target for a path under `baseUrl`."""
        whole = self.prefix + path or b"/"
        return b"%b?%b" % (whole, query) if query else whole

    def call_path(self, operation: Operation, request: Request, model: str | None) -> bytes:
        """Return the vendor's path under `baseUrl` for a request of the provider's own format."""
        if self.format is None:
            return request.path
        return self.format.upstream_path(operation, model, request.path)
