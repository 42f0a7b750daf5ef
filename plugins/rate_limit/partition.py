"""For whom a rule counts: what of a request tells one partition from another."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from plugins.rate_limit.addresses import Network, client_address
from proxy.callers import digest_of
from proxy.errors import ProxyError
from proxy.exchange import Candidate, Exchange
from proxy.redaction import is_secret_name, mask_of

Key = Callable[[Exchange], str]

Targets = Callable[[Exchange], Sequence[Candidate]]

LONGEST_PART: Final = 80
"""Characters of a client's own words that are kept; longer ones are counted under their digest."""

NOBODY: Final = Candidate("", "")


class Partitions:
    """Makes the functions that find the partition of a request.

    Args:
        trusted: `trustedProxies`.
        targets: lists who could answer; the first of them is who a rule per model or provider counts, because who
            is asked in the end is not known before the request was admitted.
    """

    def __init__(self, trusted: Sequence[Network], targets: Targets) -> None:
        self._trusted = trusted
        self._targets = targets
        self._simple: Mapping[str, Key] = {
            "caller": _caller,
            "ip": self._ip,
            "model": self._model,
            "provider": self._provider,
            "route": _route,
            "all": _all,
        }

    def key(self, dimensions: Sequence[str]) -> Callable[[Exchange], Hashable]:
        """Make the function for these dimensions."""
        keys = [self._one(dimension) for dimension in dimensions]
        if len(keys) == 1:
            return keys[0]
        return lambda exchange: tuple([key(exchange) for key in keys])

    def label(self, dimensions: Sequence[str]) -> Callable[[Exchange], str]:
        """Make the function that says for operators whose partition it is; credentials are masked."""
        keys = [_shown_caller if each == "caller" else self._one(each, mask_of) for each in dimensions]
        return lambda exchange: " ".join(_short(key(exchange)) for key in keys) or "all"

    def target(self, exchange: Exchange) -> Candidate:
        """Give the candidate that is counted."""
        try:
            return next(iter(self._targets(exchange)), NOBODY)
        except ProxyError:  # the client is told by who looks for a provider
            return NOBODY

    def _one(self, dimension: str, hide: Callable[[str], str] = digest_of) -> Key:
        """Make the function for one dimension; what a header that is secret says is hidden."""
        found = self._simple.get(dimension)
        if found is not None:
            return found
        name = dimension.removeprefix("header:").lower()
        write = hide if is_secret_name(name) else bounded
        field = name.encode("ascii")
        return lambda exchange: write(exchange.request.fields.get(field, b"").decode("latin-1"))

    def _ip(self, exchange: Exchange) -> str:
        if not self._trusted:
            return client_address(exchange.peer, None, ())
        return client_address(exchange.peer, exchange.request.fields.get(b"x-forwarded-for"), self._trusted)

    def _model(self, exchange: Exchange) -> str:
        return bounded(self.target(exchange).model or "")

    def _provider(self, exchange: Exchange) -> str:
        return self.target(exchange).provider


def _caller(exchange: Exchange) -> str:
    return exchange.caller_id


def _shown_caller(exchange: Exchange) -> str:
    return exchange.shown_caller


def _route(exchange: Exchange) -> str:
    operation = exchange.request.operation
    return f"{operation.format}.{operation.name}"


def _all(exchange: Exchange) -> str:
    return ""


def bounded(text: str) -> str:
    """Keep a client's own words where they are short, else their digest."""
    if len(text) <= LONGEST_PART:
        return text
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _short(text: str) -> str:
    """Make a client's words fit for one line of a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
