"""Write down requests and replies while somebody looks for a fault; off by default, because it costs and shows much."""

from collections.abc import Collection, Sequence
from random import Random
from typing import Final, Literal

from pydantic import Field

from proxy import hookimpl
from proxy.exchange import Exchange, RawHeaders
from proxy.plugin import Issue, Plugin, PluginConfig, PluginContext
from proxy.sink import StreamFilter
from proxy.values import Size

CREDENTIAL_MARKS: Final = ("auth", "cookie", "key", "token", "secret", "password", "credential", "signature")
"""A header with one of these in its name is shown by name only."""


class DebugConfig(PluginConfig):
    """Section `debug`."""

    enabled: bool = Field(False, description="Whether exchanges are written down.")
    level: Literal["info", "debug"] = Field(
        "info", description="info: one line per exchange; debug: also request headers (without credentials) and body."
    )
    sample_rate: float = Field(1.0, ge=0, le=1, description="Share of the exchanges that are written down.")
    bodies: bool = Field(True, description="Whether request bodies are written at level debug: they hold the prompts.")
    reply_bodies: bool = Field(
        False, description="Whether streamed replies are written at level debug; splits every stream, which costs."
    )
    max_body: Size = Field(2048, description="Most bytes of one body that are written.")


class Capture:
    """A stream filter that changes nothing and keeps the beginning."""

    def __init__(self, max_bytes: int) -> None:
        self.kept = bytearray()
        self.size_bytes = 0
        self._max_bytes = max_bytes

    def event(self, event: bytes) -> bytes:
        """Keep what still fits."""
        self.size_bytes += len(event)
        if len(self.kept) < self._max_bytes:
            self.kept += event[: self._max_bytes - len(self.kept)]
        return event

    def end(self) -> bytes:
        """Hold nothing back."""
        return b""


class DebugPlugin(Plugin[DebugConfig]):
    """Emits events `debug_request` and `debug_reply`; `tail` shows them with the word DEBUG at level debug."""

    name = "debug"

    def __init__(self, config: DebugConfig, context: PluginContext, random: Random | None = None) -> None:
        super().__init__(config, context)
        self._random = random or Random()
        self._is_detailed = config.level == "debug"

    def skips(self) -> Collection[str]:
        """Only the end of an exchange is of interest at level info."""
        if not self._is_detailed:
            return ("pre_request", "stream_filter")
        return () if self.config.reply_bodies else ("stream_filter",)

    @hookimpl
    def pre_request(self, exchange: Exchange) -> None:
        """Write the request as it came, before other plugins change it."""
        if self._note(exchange) is None:
            return
        request = exchange.request
        details: dict[str, object] = {"headers": show_headers(request.headers)}
        if self.config.bodies and request.body:
            details["body"] = show_body(request.body, self.config.max_body, len(request.body))
        message = f"{describe_request(exchange)} from {exchange.peer or 'unknown'}"
        self.context.events.emit("DEBUG", "debug_request", message, trace_id=exchange.trace_id, **details)

    @hookimpl
    def stream_filter(self, exchange: Exchange) -> StreamFilter | None:
        """Keep the beginning of the stream for the line at its end."""
        return self._note(exchange)

    @hookimpl
    def post_response(self, exchange: Exchange) -> None:
        """Write how it ended: one line, with the attempts and the body as fields at level debug."""
        note = self._note(exchange)
        if note is None:
            return
        details: dict[str, object] = {}
        if self._is_detailed:
            details["attempts"] = [
                {"provider": each.provider, "status": each.status, "error": each.error, "duration_s": each.duration_s}
                for each in exchange.attempts
            ]
            if note.size_bytes:
                details["body"] = show_body(bytes(note.kept), self.config.max_body, note.size_bytes)
        self.context.events.emit(
            "DEBUG" if self._is_detailed else "INFO",
            "debug_reply",
            f"{describe_request(exchange)} -> {describe_end(exchange)}",
            trace_id=exchange.trace_id,
            **details,
        )

    @hookimpl
    def config_issues(self) -> Sequence[Issue]:
        """Tell that it is on: it is meant for the time of a search."""
        config = self.config
        shown = [what for what, is_on in (("prompts", config.bodies), ("replies", config.reply_bodies)) if is_on]
        detail = f"{' and '.join(shown) or 'request headers'} are written to the log"
        return [
            Issue(
                kind="debug_left_on",
                severity="warning" if self._is_detailed else "info",
                path="debug.enabled",
                message=f"debug is on at level {config.level}",
                why=detail if self._is_detailed else "each exchange costs a line in the log",
                patch={"debug": {"enabled": False}},
            )
        ]

    def _note(self, exchange: Exchange) -> Capture | None:
        """Decide once per exchange whether it is written down; None if it is not."""
        if self.name not in exchange.notes:
            is_sampled = self._random.random() < self.config.sample_rate
            exchange.notes[self.name] = Capture(self.config.max_body) if is_sampled else None
        note: Capture | None = exchange.notes[self.name]
        return note


def describe_request(exchange: Exchange) -> str:
    """Write method, path and model; never the query, which may hold a key."""
    request = exchange.request
    parts = [
        request.method,
        request.path.decode("latin-1"),
        request.model or "",
        "stream" if request.is_streaming else "",
    ]
    return clean(" ".join(part for part in parts if part))


def describe_end(exchange: Exchange) -> str:
    """Write status, provider, times, usage and error, whatever of them is known."""
    usage = exchange.usage
    parts = [
        str(exchange.status),
        exchange.provider or ("cache" if exchange.is_cached else ""),
        "" if exchange.duration_s is None else f"{exchange.duration_s:.3f} s",
        "" if exchange.time_to_first_token_s is None else f"first token {exchange.time_to_first_token_s:.3f} s",
        f"{exchange.bytes_out} bytes",
        "" if usage is None else f"{show_count(usage.input_tokens)}+{show_count(usage.output_tokens)} tokens",
        f"{len(exchange.attempts)} attempts" if len(exchange.attempts) > 1 else "",
        "" if exchange.error is None else f"{exchange.error.code}: {exchange.error.message}",
    ]
    return clean(", ".join(part for part in parts if part))


def show_count(tokens: int | None) -> str:
    """Write a number of tokens that may be unknown."""
    return "?" if tokens is None else str(tokens)


def show_headers(headers: RawHeaders) -> dict[str, str]:
    """List headers by lower-case name; of credentials only that they were there."""
    shown = {}
    for name, value in headers:
        key = name.decode("latin-1").lower()
        is_credential = any(mark in key for mark in CREDENTIAL_MARKS)
        shown[key] = "(not shown)" if is_credential else clean(value.decode("latin-1"))
    return shown


def show_body(body: bytes, max_bytes: int, size_bytes: int) -> str:
    """Write the beginning of a body and how much is left out."""
    text = body[:max_bytes].decode("utf-8", "replace")
    return text if size_bytes <= max_bytes else f"{text}… ({size_bytes} bytes, {max_bytes} shown)"


def clean(text: str) -> str:
    """Make text fit for one line of a terminal: what a client sends must not add lines or colours."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
