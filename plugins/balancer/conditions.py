"""When a route is taken: patterns of model and headers, the caller's key, the size of the body."""

import hmac
import re

from plugins.balancer.settings import RouteCondition
from proxy.exchange import Exchange, Request
from proxy.patterns import compile_patterns


class Condition:
    """Tells whether a request is one that a route is for."""

    def __init__(self, settings: RouteCondition) -> None:
        self._model = None if settings.model == "*" else compile_patterns([settings.model])
        self._headers = [
            (name.lower().encode("ascii"), compile_patterns([pattern])) for name, pattern in settings.header.items()
        ]
        self._key = None if settings.key is None else settings.key.get_secret_value().encode()
        self._min_bytes, self._max_bytes = settings.min_size, settings.max_size

    def fits(self, exchange: Exchange) -> bool:
        """Tell whether all of it holds."""
        request = exchange.request
        if self._model is not None and not self._model.fullmatch(request.model or ""):
            return False
        if (self._min_bytes or self._max_bytes is not None) and not self._has_size(request):
            return False
        if self._key is not None and not self._has_key(exchange.caller):
            return False
        return all(_has_header(request, name, pattern) for name, pattern in self._headers)

    def _has_size(self, request: Request) -> bool:
        """An upload that does not say how long it is has no size that could fit."""
        size_bytes = len(request.body) if request.upload is None else request.upload.length
        if size_bytes is None:
            return False
        return self._min_bytes <= size_bytes and (self._max_bytes is None or size_bytes <= self._max_bytes)

    def _has_key(self, caller: str | None) -> bool:
        """An empty key, of a variable that is not set, is nobody's."""
        shown = (caller or "").encode("utf-8", "surrogatepass")
        return hmac.compare_digest(shown, self._key or b"") and bool(self._key)


def _has_header(request: Request, name: bytes, pattern: re.Pattern[str]) -> bool:
    return any(key.lower() == name and pattern.fullmatch(value.decode("latin-1")) for key, value in request.headers)
