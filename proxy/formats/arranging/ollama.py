"""Ollama's replies: one object, and the lines that it comes in; joined as Ollama's own server joins them."""

from collections.abc import Container
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Arranger, StreamForm, Unarrangeable
from proxy.formats.arranging.material import (
    agree,
    chained,
    dump_exactly,
    extend,
    joined,
    load_object,
    object_in,
    objects_in,
    pieces_of,
    text_in,
)
from proxy.formats.fields import Json

LISTS: Final = ("tool_calls", "logprobs")
"""What lines hold whole items of."""
PER_LINE: Final = ("model", "created_at", "remote_model", "remote_host")
"""What every line repeats; the time is that of the line, and the reply's that of the last."""
OWN: Final = ("done", "created_at")
"""What a line says of itself."""


class LinesArranger(Arranger):
    """Puts together and takes apart the replies of `/api/chat`, or of `/api/generate`.

    The last line is the reply but for what came in pieces, so a whole reply is a stream of one line.
    """

    def __init__(self, is_chat: bool) -> None:
        self._is_chat = is_chat
        self._texts = ("thinking", "content") if is_chat else ("thinking", "response")

    def is_stream(self, body: bytes) -> bool:
        """Say yes: a whole reply is read as a stream of one line."""
        return True

    def collect(self, body: bytes) -> JsonObject:
        """Join texts and lists of all lines; in all else no line may say other than the last."""
        lines = [load_object(line) for line in body.splitlines() if line.strip()]
        if not lines:
            raise Unarrangeable("no lines")
        reply = dict(lines[-1])
        told: dict[str, list[Json]] = {}
        message: JsonObject = dict(object_in(reply.get("message"))) if self._is_chat else reply
        for line in lines:
            if line.get("error") or (line.get("done") is True) != (line is lines[-1]):
                raise Unarrangeable("an error, or a last line that is not the last")
            if self._is_chat:
                _take(message, told, object_in(line.get("message")), (*self._texts, "tool_calls"))
                _take(reply, told, line, ("logprobs", "message"))
            else:
                _take(reply, told, line, (*self._texts, *LISTS))
        told.pop("message", None)
        if self._is_chat:
            reply["message"] = message
        for key, pieces in told.items():
            holder = reply if key == "logprobs" else message
            holder[key] = chained(pieces) if key in LISTS else joined(pieces)
        return reply

    def check(self, reply: JsonObject) -> None:
        """Look at the end, and at what is to be cut into pieces."""
        if reply.get("done") is not True or reply.get("error"):
            raise Unarrangeable("no reply that is done")
        message = object_in(reply.get("message")) if self._is_chat else reply
        text_in(message.get("role") if self._is_chat else reply.get("response"))
        for key in self._texts:
            joined([message.get(key)])
        objects_in(message.get("tool_calls") or [])
        chained([reply.get("logprobs")])

    def spread(self, reply: JsonObject, form: StreamForm) -> bytes:
        """Write a line for each piece of text, one for the calls, and the last with all else."""
        message: JsonObject = reply["message"] if self._is_chat else reply
        pieces = [{key: piece} for key in self._texts for piece in pieces_of(message.get(key) or "")]
        if message.get("tool_calls"):
            pieces.append({"tool_calls": message["tool_calls"]})
        lines = [self._line(reply, message, piece) for piece in pieces]
        last = {key: value for key, value in message.items() if not (value and key in ("thinking", "tool_calls"))}
        last |= {key: "" for key in self._texts[1:] if message.get(key)}
        end: JsonObject = reply | {"message": last} if self._is_chat else last
        if lines and reply.get("logprobs"):
            lines[0]["logprobs"] = end["logprobs"]
            end = {key: value for key, value in end.items() if key != "logprobs"}
        return b"".join(dump_exactly(line) + b"\n" for line in (*lines, end))

    def _line(self, reply: JsonObject, message: JsonObject, piece: JsonObject) -> JsonObject:
        text = {key: "" for key in self._texts[1:] if message.get(key) is not None} | piece
        head = {key: reply[key] for key in PER_LINE if key in reply}
        content = {"message": {"role": message["role"]} | text} if self._is_chat else text
        return head | content | {"done": False}


def _take(known: JsonObject, told: dict[str, list[Json]], line: JsonObject, in_pieces: Container[str]) -> None:
    for key, value in line.items():
        if key in in_pieces:
            extend(told, key, value)
        elif key not in OWN:
            agree(known, key, value)
