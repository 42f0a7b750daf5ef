"""Which operation a client path stands for: one table over all formats."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from proxy.errors import ClientError, MethodNotAllowed, UnknownPath
from proxy.exchange import Operation
from proxy.formats.base import Format

RAW: Final = "raw"

SHARED_PREFIX: Final = "/v1/"
PROXY_PREFIX: Final = "/proxy/"


@dataclass(frozen=True, slots=True)
class Match:
    """What a path was found to mean.

    Args:
        model: named in the path, decoded; None elsewhere.
        provider: named by `/proxy/{provider}/…`.
        upstream_path: to ask the provider for, as on the wire; None: the client's own path.
    """

    operation: Operation
    model: str | None = None
    provider: str | None = None
    upstream_path: bytes | None = None


def _on_wire(path: str) -> bytes:
    return path.encode("latin-1", "replace")


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", path)
    return re.compile("".join(r"(?P<model>.+?)" if part == "{model}" else re.escape(part) for part in parts))


def _read_as_format(fields: Mapping[bytes, bytes], query: bytes) -> str:
    """Whose SDK calls a path that several formats share."""
    if b"anthropic-version" in fields:
        return "anthropic"
    if b"x-goog-api-key" in fields or query.startswith(b"key=") or b"&key=" in query:
        return "gemini"
    return "openai"


class Routes:
    """The data side's paths.

    Args:
        formats: in the order in which they are asked where several have a path.
    """

    def __init__(self, formats: Iterable[Format]) -> None:
        self._exact: dict[str, dict[tuple[str, str], Operation]] = {}
        self._patterns: list[tuple[re.Pattern[str], Operation]] = []
        for wire in formats:
            for operation in wire.operations:
                if "{" in operation.path:
                    self._patterns.append((_pattern(operation.path), operation))
                else:
                    self._exact.setdefault(operation.path, {})[operation.method, operation.format] = operation
        self._single = {
            (method, path): Match(operation, upstream_path=path.encode())
            for path, by_method in self._exact.items()
            for (method, _), operation in by_method.items()
            if sum(1 for other, _ in by_method if other == method) == 1
        }

    def quick(self, method: str, path: str) -> Match | None:
        """Find what a request means if its path says it all; None leaves it to `find`."""
        return self._single.get((method, path))

    def find(self, method: str, path: str, query: bytes, fields: Mapping[bytes, bytes]) -> Match:
        """Find what a request means.

        Args:
            path: as on the wire, without the query.
        Raises:
            UnknownPath, MethodNotAllowed: nothing lives there, or not under this method.
            ClientError: the path tries to climb.
        """
        found = self._single.get((method, path))
        if found is not None:
            return found
        check_path(path)
        if path.startswith(PROXY_PREFIX):
            return self._raw_of_provider(method, path)
        wanted = _read_as_format(fields, query)
        methods: set[str] = set()
        matches = []
        for operation, model in self._candidates(path):
            methods.add(operation.method)
            if operation.method == method or (method == "HEAD" and operation.method == "GET"):
                matches.append(Match(operation, model))
        for match in matches:
            if match.operation.format == wanted:
                return match
        if matches:
            return matches[0]
        if path.startswith(SHARED_PREFIX) and len(path) > len(SHARED_PREFIX) and not methods:
            return self._raw_of_format(method, path, "anthropic" if wanted == "anthropic" else "openai")
        if methods:
            raise MethodNotAllowed(f"{method} is not served at {path[:200]}", sorted(methods))
        raise UnknownPath(f"nothing lives at {path[:200]}")

    def _candidates(self, path: str) -> Iterable[tuple[Operation, str | None]]:
        for operation in self._exact.get(path, {}).values():
            yield operation, None
        for pattern, operation in self._patterns:
            if (found := pattern.fullmatch(path)) is not None:
                yield operation, unquote(found["model"])

    @staticmethod
    def _raw_of_provider(method: str, path: str) -> Match:
        name, slash, rest = path[len(PROXY_PREFIX) :].partition("/")
        operation = Operation("native", RAW, method, "/proxy/{provider}/{rest}", reads_body=False)
        return Match(operation, provider=unquote(name), upstream_path=_on_wire(slash + rest))

    @staticmethod
    def _raw_of_format(method: str, path: str, format_name: str) -> Match:
        operation = Operation(format_name, RAW, method, "/v1/{rest}", reads_body=False)
        upstream_path = path if format_name == "anthropic" else path[len(SHARED_PREFIX) - 1 :]
        return Match(operation, upstream_path=_on_wire(upstream_path))


def check_path(path: str) -> None:
    """Refuse paths that mean another place to the next server than to this one.

    Raises:
        ClientError: dot segments (escaped ones and `..;x` too), backslashes, or control characters.
    """
    decoded = unquote(path)
    if "\\" in decoded or any(segment.partition(";")[0] in (".", "..") for segment in decoded.split("/")):
        raise ClientError("the path has dot segments or backslashes")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in decoded):
        raise ClientError("the path has control characters")
