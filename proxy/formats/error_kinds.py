"""How each kind of error is called in each format: one table for all of them."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.errors import ProxyError


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """The names one kind of error goes by; `anthropic_status` where Anthropic's differs from ours."""

    openai_type: str
    anthropic_type: str
    gemini_status: str
    anthropic_status: int | None = None


_BAD = ErrorKind("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT")
_TOO_LARGE = ErrorKind("invalid_request_error", "request_too_large", "INVALID_ARGUMENT")
_NO_KEY = ErrorKind("invalid_request_error", "authentication_error", "UNAUTHENTICATED")
_FORBIDDEN = ErrorKind("permission_error", "permission_error", "PERMISSION_DENIED")
_NOT_FOUND = ErrorKind("invalid_request_error", "not_found_error", "NOT_FOUND")
_CONFLICT = ErrorKind("invalid_request_error", "conflict_error", "ABORTED")
_RATE = ErrorKind("rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED")
_QUOTA = ErrorKind("insufficient_quota", "billing_error", "RESOURCE_EXHAUSTED", anthropic_status=402)
_BROKEN = ErrorKind("server_error", "api_error", "INTERNAL")
_BUSY = ErrorKind("server_error", "overloaded_error", "UNAVAILABLE", anthropic_status=529)
_LATE = ErrorKind("server_error", "timeout_error", "DEADLINE_EXCEEDED")
_UNSUPPORTED = ErrorKind("invalid_request_error", "invalid_request_error", "UNIMPLEMENTED")

BY_CODE: Final = MappingProxyType(
    {
        "insufficient_quota": _QUOTA,
        "budget_exceeded": _QUOTA,
        "overloaded": _BUSY,
        "draining": _BUSY,
        "plugin_failed": ErrorKind("server_error", "api_error", "UNAVAILABLE"),
    }
)
"""Codes that say more than their status."""

BY_STATUS: Final = MappingProxyType(
    {
        400: _BAD,
        401: _NO_KEY,
        402: _QUOTA,
        403: _FORBIDDEN,
        404: _NOT_FOUND,
        408: _LATE,
        409: _CONFLICT,
        413: _TOO_LARGE,
        422: _BAD,
        429: _RATE,
        500: _BROKEN,
        501: _UNSUPPORTED,
        502: _BROKEN,
        503: _BUSY,
        504: _LATE,
    }
)


def kind_of_error(error: ProxyError) -> ErrorKind:
    """Find what an error is called: by its code, else its status, else the family of the status."""
    kind = BY_CODE.get(error.code) or BY_STATUS.get(error.status)
    return kind or (_BAD if error.status < 500 else _BROKEN)
