"""What a fake provider is told to answer, whatever format it is asked in."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from proxy.exchange import JsonObject
from proxy.testing.steps import Faults, Step
from proxy.usage import Usage

Body = bytes | str | JsonObject | None
HeaderFields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; `arguments` is the JSON text, `call_id` what ties the result to it."""

    name: str
    arguments: str
    call_id: str = "call_fake_1"

    @property
    def input(self) -> JsonObject:
        """The arguments as an object, as Anthropic, Gemini and Ollama send them."""
        document: JsonObject = orjson.loads(self.arguments)
        return document


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: a text or a tool call in the format of the request, or a status, or raw bytes.

    Args:
        texts: pieces of the text, one event each in a stream.
        delay_s: pause before each text of a stream but the first.
        gate: waited for, in a stream, once `gate_after` texts are sent.
        status: with `body`: sent in place of a text; 0 means a text is sent.
        steps: sent in place of everything else.
        is_chunked: a body that is no stream is sent in one chunk rather than with its length.
    """

    texts: tuple[str, ...] = ("Hello", " from", " the", " fake", " provider.")
    tool_call: ToolCall | None = None
    usage: Usage = field(default_factory=lambda: Usage(input_tokens=9, output_tokens=5))
    delay_s: float = 0.0
    gate: asyncio.Event | None = None
    gate_after: int = 1
    status: int = 0
    body: Body = None
    headers: HeaderFields = field(default_factory=dict)
    steps: tuple[Step, ...] | None = None
    is_chunked: bool = False
    faults: Faults = field(default_factory=Faults)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.texts)


class Script:
    """The verbs by which a test says what comes next; each puts one Answer where the constructor was told to."""

    def __init__(self, put: Callable[[Answer], None]) -> None:
        self._put = put

    def reply(
        self,
        text: str = "Hello from the fake provider.",
        *,
        usage: Usage | None = None,
        headers: HeaderFields | None = None,
        is_chunked: bool = False,
        faults: Faults | None = None,
    ) -> None:
        """Answer with a text, in the format and manner (stream or not) of each request."""
        words = tuple(word if at == 0 else f" {word}" for at, word in enumerate(text.split(" ")))
        self._put(
            Answer(
                texts=words,
                usage=usage or Usage(input_tokens=9, output_tokens=len(words)),
                headers=headers or {},
                is_chunked=is_chunked,
                faults=faults or Faults(),
            )
        )

    def stream(
        self,
        texts: Sequence[str],
        *,
        delay_s: float = 0.0,
        gate: asyncio.Event | None = None,
        gate_after: int = 1,
        usage: Usage | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Answer with these pieces, one event each; a request that asks for no stream gets them joined.

        Args:
            delay_s: pause before each piece but the first.
            gate: waited for once `gate_after` pieces are sent.
        """
        self._put(
            Answer(
                texts=tuple(texts),
                usage=usage or Usage(input_tokens=9, output_tokens=len(texts)),
                delay_s=delay_s,
                gate=gate,
                gate_after=gate_after,
                faults=faults or Faults(),
            )
        )

    def reply_tool_call(
        self, name: str, arguments: JsonObject | str, *, call_id: str = "call_fake_1", faults: Faults | None = None
    ) -> None:
        """Answer with one call of a tool; a string goes out as it is, be it JSON or not."""
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        self._put(Answer(texts=(), tool_call=ToolCall(name, text, call_id), faults=faults or Faults()))

    def reply_status(
        self, status: int, body: Body = None, headers: HeaderFields | None = None, *, faults: Faults | None = None
    ) -> None:
        """Answer any path with a status: an error body in the request's format, or the body that is given."""
        self._put(Answer(status=status, body=body, headers=headers or {}, faults=faults or Faults()))

    def reply_raw(self, *steps: Step) -> None:
        """Answer any path with exactly these bytes, status line included, and pauses, gates and cuts between."""
        self._put(Answer(steps=steps))
