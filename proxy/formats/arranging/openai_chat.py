"""Chat completions and legacy completions of OpenAI: chunks and the whole reply."""

from dataclasses import dataclass, field
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Arranger, StreamForm, Unarrangeable
from proxy.formats.arranging.material import (
    DONE,
    Event,
    agree,
    chained,
    extend,
    joined,
    number_in,
    object_in,
    objects_in,
    pieces_of,
    read_events,
    take_once,
    text_in,
    write_document,
)
from proxy.formats.arranging.openai_tools import CALL_KEYS, ToolCalls, check_calls, spread_calls
from proxy.formats.fields import Json
from proxy.formats.sse import write_event

PER_CHUNK: Final = ("id", "created", "model", "system_fingerprint", "service_tier")
"""What every chunk repeats; further fields of the whole reply stand in the first alone."""
EMPTY: Final = ("", 0)
"""What Azure's first chunk says of id, time and model; it has no choice."""
MESSAGE_TEXTS: Final = ("reasoning_content", "reasoning", "content", "refusal")
"""The texts of a message that come in pieces; written in this order."""


@dataclass(slots=True)
class _Choice:
    """One choice as far as its chunks have told it."""

    fields: JsonObject = field(default_factory=dict)
    message: JsonObject = field(default_factory=dict)
    texts: dict[str, list[Json]] = field(default_factory=dict)
    logprobs: dict[str, list[Json]] = field(default_factory=dict)
    calls: ToolCalls = field(default_factory=ToolCalls)


class ChatArranger(Arranger):
    """Puts together and takes apart the replies of `/chat/completions`, or of `/completions`.

    A stream says its usage only if the client asked; a whole reply always has it, so a stream without is not made one.
    """

    def __init__(self, is_chat: bool) -> None:
        self._is_chat = is_chat
        self._whole_kind = "chat.completion" if is_chat else "text_completion"
        self._chunk_kind = "chat.completion.chunk" if is_chat else "text_completion"

    def collect(self, body: bytes) -> JsonObject:
        """Join the deltas of every choice."""
        events, is_done = read_events(body)
        if not is_done:
            raise Unarrangeable("no [DONE]")
        reply: JsonObject = {}
        choices: dict[int, _Choice] = {}
        for event in events:
            self._take_chunk(reply, choices, event)
        if not reply.get("usage"):
            raise Unarrangeable("the stream does not tell its usage")
        reply["object"] = self._whole_kind
        reply["choices"] = [self._finish(index, choices.get(index)) for index in range(max(choices, default=-1) + 1)]
        return reply

    def _take_chunk(self, reply: JsonObject, choices: dict[int, _Choice], event: Event) -> None:
        name, chunk = event
        if name not in (None, "message") or chunk.get("error"):
            raise Unarrangeable("an event that is no chunk")
        if chunk.get("object") not in (self._chunk_kind, None, ""):
            raise Unarrangeable("an object that is no chunk")
        choices_told = objects_in(chunk.get("choices"))
        for key, value in chunk.items():
            if key == "usage":
                reply[key] = reply.get(key) if value is None else object_in(value)
            elif key == "created":
                reply[key] = reply.get(key) or value  # some servers count on; the whole reply has one time
            elif key not in ("choices", "object", "obfuscation"):
                agree(reply, key, None if value in EMPTY and key in PER_CHUNK and not choices_told else value)
        for position, choice in enumerate(choices_told):
            index = number_in(choice.get("index", position))
            self._take_choice(choices.setdefault(index, _Choice()), choice)

    def _take_choice(self, known: _Choice, choice: JsonObject) -> None:
        for key, value in choice.items():
            if key == "logprobs":
                self._take_logprobs(known, value)
            elif key == "delta" and self._is_chat:
                self._take_delta(known, object_in(value))
            elif key == "text" and not self._is_chat:
                extend(known.texts, key, value)
            elif key in ("delta", "text", "message"):
                raise Unarrangeable(f"{key} in a chunk of the other operation")
            elif key != "index":
                agree(known.fields, key, value)

    def _take_delta(self, known: _Choice, delta: JsonObject) -> None:
        for key, value in delta.items():
            if key in MESSAGE_TEXTS:
                extend(known.texts, key, value)
            elif key in CALL_KEYS:
                known.calls.take(key, value)
            elif key == "role":
                agree(known.message, key, value)
            else:
                take_once(known.message, key, value)

    def _take_logprobs(self, known: _Choice, logprobs: Json) -> None:
        known.fields.setdefault("logprobs", None)
        if logprobs is None:
            return
        known.fields["logprobs"] = {}
        for key, value in object_in(logprobs).items():
            extend(known.logprobs, key, value)

    def _finish(self, index: int, known: _Choice | None) -> JsonObject:
        if known is None or not known.fields.get("finish_reason"):
            raise Unarrangeable(f"choice {index} has no end")
        choice: JsonObject = {"index": index, **known.fields}
        if choice.get("logprobs") is not None:
            choice["logprobs"] = {key: chained(lists) for key, lists in known.logprobs.items()}
        texts = {key: joined(pieces) for key, pieces in known.texts.items()}
        if self._is_chat:
            choice["message"] = {"role": "assistant", "content": None, **known.message, **texts, **known.calls.finish()}
        else:
            choice["text"] = text_in(texts.get("text"))
        return choice

    def check(self, reply: JsonObject) -> None:
        """Look at kind, choices and their ends."""
        if reply.get("object") != self._whole_kind or reply.get("error"):
            raise Unarrangeable("no reply of this operation")
        if reply.get("usage") is not None:
            object_in(reply["usage"])
        choices = objects_in(reply.get("choices"))
        if not choices:
            raise Unarrangeable("no choices")
        for position, choice in enumerate(choices):
            if number_in(choice.get("index")) != position or not text_in(choice.get("finish_reason")):
                raise Unarrangeable("choices out of order, or without an end")
            self._check_choice(choice)

    def _check_choice(self, choice: JsonObject) -> None:
        if "delta" in choice or ("text" if self._is_chat else "message") in choice:
            raise Unarrangeable("a choice of another operation")
        logprobs = choice.get("logprobs")
        for value in object_in({} if logprobs is None else logprobs).values():
            chained([value])
        if not self._is_chat:
            text_in(choice.get("text"))
            return
        message = object_in(choice.get("message"))
        text_in(message.get("role"))
        for key in MESSAGE_TEXTS:
            joined([message.get(key)])
        check_calls(message)

    def spread(self, reply: JsonObject, form: StreamForm) -> bytes:
        """Write the chunk that opens each choice, the pieces of each, the usage if asked for, and `[DONE]`."""
        usage = reply.get("usage")
        if form.with_usage and not usage:
            raise Unarrangeable("the usage is not known")
        head = {key: reply[key] for key in PER_CHUNK if key in reply} | {"object": self._chunk_kind}
        first = {key: value for key, value in reply.items() if key not in ("choices", "usage", "object")}
        choices = [self._spread_choice(choice) for choice in reply["choices"]]
        openings, rest = [chunks[0] for chunks in choices], [chunk for chunks in choices for chunk in chunks[1:]]
        no_usage: JsonObject = {"usage": None} if form.with_usage else {}
        written = [
            write_document((head | first if at == 0 else head) | {"choices": [chunk]} | no_usage)
            for at, chunk in enumerate([*openings, *rest])
        ]
        if form.with_usage:
            written.append(write_document(head | {"choices": [], "usage": usage}))
        return b"".join((*written, write_event(DONE)))

    def _spread_choice(self, choice: JsonObject) -> list[JsonObject]:
        deltas = _deltas(choice["message"]) if self._is_chat else ["", *pieces_of(choice["text"])]
        key = "delta" if self._is_chat else "text"
        frame: JsonObject = {"index": choice["index"], "finish_reason": None}
        if "logprobs" in choice:
            frame["logprobs"] = None
        chunks = [frame | {key: delta} for delta in deltas]
        left = {name: value for name, value in choice.items() if name not in ("index", "logprobs", "message", "text")}
        chunks.append(frame | {key: {} if self._is_chat else ""} | left)
        if choice.get("logprobs") is not None:
            chunks[1]["logprobs"] = choice["logprobs"]
        return chunks


def _deltas(message: JsonObject) -> list[JsonObject]:
    """Take a message apart: role and what has no pieces, then the pieces."""
    texts = {key: message[key] for key in MESSAGE_TEXTS if key in message}
    opening = {key: value for key, value in message.items() if key not in texts and key not in CALL_KEYS}
    opening |= {key: text for key, text in texts.items() if not text}
    if texts.get("content"):
        opening["content"] = ""
    pieces: list[JsonObject] = [{key: piece} for key, text in texts.items() for piece in pieces_of(text or "")]
    empty_calls, calls = spread_calls(message)
    return [opening | empty_calls, *pieces, *calls]
