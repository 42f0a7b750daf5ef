"""The one model of a conversation that every wire format is read into and written from; text only for now."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from proxy.usage import Usage

STOP: Final = "stop"
LENGTH: Final = "length"
TOOL_CALLS: Final = "tool_calls"
CONTENT_FILTER: Final = "content_filter"
FINISH_REASONS: Final = frozenset({STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER})


class Message(NamedTuple):
    """One turn; `role` is system, user, assistant or tool."""

    role: str
    text: str


@dataclass(slots=True)
class ChatRequest:
    """A question in no particular format; None leaves the choice to the provider.

    Args:
        messages: the turns in order, without the leading system text.
        system: what stands before the turns, joined with blank lines.
        include_usage: the client of an OpenAI stream asked for the usage chunk.
    """

    messages: list[Message]
    system: str | None = None
    model: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = field(default_factory=list)
    is_streaming: bool = False
    include_usage: bool = False

    @property
    def last_text(self) -> str:
        """The text of the last user turn; of the last turn if no user spoke, empty if nobody did."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return self.messages[-1].text if self.messages else ""


@dataclass(slots=True)
class Completion:
    """An answer in no particular format.

    Args:
        id: without a format's prefix when made here (writers add `chatcmpl-`, `msg_`, …).
        finish_reason: stop, length, tool_calls or content_filter; empty while a provider has not told it.
        created_s: wall clock, seconds since 1970.
    """

    id: str
    model: str
    text: str
    finish_reason: str = STOP
    usage: Usage = field(default_factory=Usage)
    created_s: int = 0


@dataclass(frozen=True, slots=True)
class ReplyFacts:
    """What this proxy knows about a reply beyond its content; only the native format shows it."""

    provider: str | None = None
    is_cached: bool = False
    latency_ms: float | None = None
    trace_id: str | None = None
