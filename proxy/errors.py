"""Every error the proxy raises, in families by phase; each class has an HTTP status and a code that never changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FailureKind = Literal[
    "connect",
    "tls",
    "timeout",
    "reset",
    "rate-limit",
    "overloaded",
    "server-error",
    "auth",
    "not-found",
    "context-length",
    "content-refused",
    "busy",
]
"""What kind of failure of a provider it was: what `failover.on` names and operators are told.

`reset` is any response that broke off or is no HTTP we can trust; `busy` is this proxy's own limit for the provider.
"""


class ProxyError(Exception):
    """The root: something the client or the operator is told about in plain words.

    Args:
        message: names the thing, the value found and the limit; never a secret or a body.
        retry_after_s: seconds after which another try makes sense, if known.
        provider: the provider that was being asked, if any.
    """

    status = 500
    code = "internal_error"

    def __init__(self, message: str, *, retry_after_s: float | None = None, provider: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.provider = provider


def forget_frames(error: BaseException) -> None:
    """Let go of the frames that an error, and all that led to it, came through.

    They hold the exchange with its body, and the exchange holds the error: what only the garbage collector would
    free, and it is let run rarely.
    """
    known = {id(error)}
    chain = [error]
    for one in chain:
        one.__traceback__ = None
        for earlier in (one.__cause__, one.__context__):
            if earlier is not None and id(earlier) not in known:
                known.add(id(earlier))
                chain.append(earlier)


# -- configuration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration: where, what, and the value found (None when secret or absent)."""

    path: str
    message: str
    got: object = None
    line: int | None = None


class ConfigError(ProxyError):
    """A configuration that cannot be used; `faults` lists everything wrong with it."""

    status = 422
    code = "invalid_config"

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class AddressUnusable(ConfigError):
    """The address to listen on is taken, or none of this machine's."""


class RevisionMismatch(ProxyError):
    """The configuration is not the one that `If-Match` names (RFC 9110, 13.1.1); `revision` is the one in force."""

    status = 412
    code = "revision_mismatch"

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message)
        self.revision = revision


class StorageFailed(ProxyError):
    """The state folder could not be written, so that nothing was changed."""

    code = "storage_failed"


class StorageFull(StorageFailed):
    """The disk that holds the state folder is full (RFC 4918, 11.5), so that nothing was changed."""

    status = 507
    code = "storage_full"


# -- the client's request --------------------------------------------------------------------------------------------


class ClientError(ProxyError):
    """The request cannot be served as it was sent (RFC 9110, 15.5)."""

    status = 400
    code = "invalid_request"


class MalformedBody(ClientError):
    """The body is not what its path needs: not JSON, or JSON of the wrong shape."""

    code = "invalid_body"


class MalformedHttp(ClientError):
    """The bytes are not an HTTP request we accept."""

    code = "invalid_http"


class HttpVersionUnsupported(ClientError):
    """Neither HTTP/1.0 nor HTTP/1.1."""

    status = 505
    code = "http_version"


class Unauthorized(ClientError):
    """No key or token, or a wrong one."""

    status = 401
    code = "unauthorized"


class Forbidden(ClientError):
    """The caller may not do this from where it is."""

    status = 403
    code = "forbidden"


class UnknownPath(ClientError):
    """Nothing lives at this path."""

    status = 404
    code = "not_found"


class UnknownModel(ClientError):
    """No provider has this model."""

    status = 404
    code = "model_not_found"


class MethodNotAllowed(ClientError):
    """The path exists, the method does not; `allow` lists those that do."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allow: Sequence[str]) -> None:
        super().__init__(message)
        self.allow = tuple(allow)


class ClientTimeout(ClientError):
    """The client stopped sending its request."""

    status = 408
    code = "request_timeout"


class BodyTooLarge(ClientError):
    """The body is larger than `server.clientMaxSize`."""

    status = 413
    code = "body_too_large"


class UnsupportedMedia(ClientError):
    """The body is not of a media type that this path takes (RFC 9110, 15.5.16)."""

    status = 415
    code = "unsupported_media_type"


class TranslationUnsupported(ClientError):
    """The model is only at a provider of another format, and nothing translates between the two yet."""

    status = 501
    code = "translation_unsupported"


class Refused(ProxyError):
    """A plugin said no.

    Args:
        message: why, for the client.
        code: stable, chosen by the plugin.
        status: 4xx or 503.
    """

    def __init__(self, message: str, *, code: str, status: int = 403, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code
        self.status = status


# -- this process ----------------------------------------------------------------------------------------------------


class Overloaded(ProxyError):
    """A concurrency limit is reached and its queue is full, or the wait in it was too long."""

    status = 503
    code = "overloaded"


class ProviderBusy(Overloaded):
    """The same for one provider's limit: another one may have room."""


def out_of_memory() -> Overloaded:
    """Make the error of a request during which there was no memory left (MemoryError)."""
    return Overloaded("there was no memory for the request", retry_after_s=1)


class Draining(ProxyError):
    """The process is stopping and takes no new work."""

    status = 503
    code = "draining"


class PluginFailed(ProxyError):
    """A plugin that must not be skipped (fail-closed) failed."""

    status = 503
    code = "plugin_failed"


# -- providers -------------------------------------------------------------------------------------------------------


class UpstreamError(ProxyError):
    """A provider did not give a usable answer.

    `may_have_executed` tells whether the provider can have worked on the request (and will bill it): False only
    where that is certain.
    """

    status = 502
    code = "upstream_error"
    may_have_executed = True


class UpstreamConnect(UpstreamError):
    """No connection to the provider: refused, unreachable, or no such host."""

    code = "upstream_connect"
    may_have_executed = False


class UpstreamConnectTimeout(UpstreamError):
    """The connection was not there within the connect timeout."""

    status = 504
    code = "upstream_timeout"
    may_have_executed = False


class UpstreamTls(UpstreamError):
    """The TLS handshake failed: certificate, name or protocol. Nothing was sent."""

    code = "upstream_tls"
    may_have_executed = False


class UpstreamTimeout(UpstreamError):
    """A provider stayed silent longer than its timeout (RFC 9110, 15.6.5)."""

    status = 504
    code = "upstream_timeout"


class UpstreamReset(UpstreamError):
    """The connection broke before the response began."""

    code = "upstream_reset"


class StaleConnection(UpstreamReset):
    """A kept-alive connection had been closed by the provider, and provably no byte of the request reached it."""

    may_have_executed = False


class UpstreamProtocol(UpstreamError):
    """The response is not HTTP we can trust."""

    code = "upstream_protocol"


class UpstreamCut(UpstreamError):
    """The response ended before it was complete."""

    code = "upstream_cut"


class UpstreamAuth(UpstreamError):
    """The provider refused the key that this proxy holds for it; the client's key is not at fault."""

    code = "upstream_auth"


class UpstreamRejected(UpstreamError):
    """The provider answered with an error of its own; `status` is the provider's where there was one.

    Args:
        vendor_code, vendor_text: what the vendor calls it and says about it; empty where it says nothing.
        should_retry: the vendor's own word (`x-should-retry`), None where it has none.
    """

    code = "upstream_rejected"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        provider: str | None = None,
        vendor_code: str = "",
        vendor_text: str = "",
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, provider=provider)
        if status is not None:
            self.status = status
        self.vendor_status = status
        """None where the error stood inside a response that had begun well."""
        self.vendor_code = vendor_code
        self.vendor_text = vendor_text
        self.should_retry = should_retry


class NobodyAnswered(UpstreamError):
    """Nobody who has the model could answer; status and code are those of the most telling failure."""

    code = "providers_unavailable"

    def __init__(
        self,
        message: str,
        *,
        status: int = 503,
        code: str | None = None,
        retry_after_s: float | None = None,
        provider: str | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, provider=provider)
        self.status = status
        if code is not None:
            self.code = code


class Cancelled(ProxyError):
    """An operator ended the request (`DELETE /inflight/{id}`)."""

    status = 503
    code = "cancelled_by_operator"
