"""What the pipeline knows of a provider: the format it speaks, the path and credential of a call, or its own answer."""

from abc import ABC, abstractmethod
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
        credential: the key held for it, None to pass the client's own on.
    """

    def __init__(self, name: str, settings: ProviderSettings, credential: str | None) -> None:
        super().__init__(name, settings)
        url = urlsplit(settings.base_url or "")
        self.scheme = url.scheme
        self.host = url.hostname or ""
        self.port = url.port or DEFAULT_PORTS.get(url.scheme, 80)
        self.prefix = url.path.rstrip("/").encode("ascii")
        bare = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == DEFAULT_PORTS.get(url.scheme)
        self.host_header = (bare if is_default else f"{bare}:{self.port}").encode("ascii")
        self.has_credential = credential is not None
        extra = [(key.encode("ascii"), value.encode("latin-1")) for key, value in settings.headers.items()]
        self._extra = extra
        self._own = [*extra, *(self.credential_headers(credential, ()) if credential is not None else ())]

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what a credential is bound to."""
        return self.scheme, self.host, self.port

    def is_same_as(self, other: Provider) -> bool:
        """Tell whether another revision's provider of this name does just the same, with the same key."""
        return super().is_same_as(other) and isinstance(other, RemoteProvider) and self._own == other._own

    def own_headers(self, client_key: str | None, client_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the headers this proxy adds: configured ones and the credential.

        Args:
            client_key: the client's own key, where it may be passed to this provider; None otherwise.
            client_headers: for credentials whose form follows the client's.
        """
        if self.has_credential or client_key is None:
            return self._own
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
