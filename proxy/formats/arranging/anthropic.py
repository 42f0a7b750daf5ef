"""Anthropic's messages: the whole message, and the events of its blocks."""

from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.arranging.anthropic_blocks import Block, check_block, spread_block
from proxy.formats.arranging.base import Arranger, StreamForm, Unarrangeable
from proxy.formats.arranging.material import (
    Event,
    agree,
    number_in,
    object_in,
    objects_in,
    read_events,
    text_in,
    write_document,
)

TOLD_LAST: Final = ("stop_reason", "stop_sequence", "stop_details", "container")
"""Fields of the message that `message_delta` tells in its `delta`."""
TOLD_BESIDE: Final = ("context_management", "input_transformations")
"""Fields of the message that `message_delta` tells beside its `delta`."""
USAGE_TOLD_LAST: Final = ("output_tokens_details", "server_tool_use", "iterations")
"""What is counted while the message is written; `output_tokens` begins at 0."""


class _Message:
    """One message as far as its events have told it."""

    def __init__(self) -> None:
        self.fields: JsonObject = {}
        self.usage: JsonObject = {}
        self.blocks: list[Block] = []
        self.is_over = False

    def take(self, kind: str, event: JsonObject) -> None:
        """Take in one event. Raises Unarrangeable."""
        if self.is_over or bool(self.fields) == (kind == "message_start"):
            raise Unarrangeable("an event before the first, after the last, or a second message")
        if kind == "message_start":
            self.fields = object_in(event.get("message"))
            if self.fields.get("content") != []:
                raise Unarrangeable("a message that begins with content")
            self._count(object_in(self.fields.get("usage")))
        elif kind == "message_delta":
            self._end(event)
        elif kind == "message_stop":
            self.is_over = True
        else:
            self._take_block(kind, event)

    def _take_block(self, kind: str, event: JsonObject) -> None:
        index = number_in(event.get("index"))
        is_next = index == len(self.blocks) and (not self.blocks or self.blocks[-1].is_over)
        if kind == "content_block_start" and is_next:
            self.blocks.append(Block(object_in(event.get("content_block"))))
        elif kind == "content_block_delta" and index == len(self.blocks) - 1:
            self.blocks[index].take(object_in(event.get("delta")))
        elif kind == "content_block_stop" and index == len(self.blocks) - 1:
            self.blocks[index].stop()
        else:
            raise Unarrangeable("an event of an unknown kind, or of a block that is not open")

    def _end(self, event: JsonObject) -> None:
        for key, value in object_in(event.get("delta")).items():
            agree(self.fields, key, value)
        self._count(object_in(event.get("usage", {})))
        for key in event.keys() - {"type", "delta", "usage"}:
            if key not in TOLD_BESIDE:
                raise Unarrangeable("a message_delta with something unknown")
            agree(self.fields, key, event[key])

    def _count(self, usage: JsonObject) -> None:
        self.usage |= {key: value for key, value in usage.items() if value is not None or key not in self.usage}

    def finish(self) -> JsonObject:
        """Return the whole message. Raises Unarrangeable."""
        if not self.is_over:
            raise Unarrangeable("no message_stop")
        return self.fields | {"content": [block.finish() for block in self.blocks], "usage": self.usage}


class MessagesArranger(Arranger):
    """Puts together and takes apart the replies of `/v1/messages`."""

    def collect(self, body: bytes) -> JsonObject:
        """Join the deltas of every block; counts are cumulative, so later ones replace earlier ones."""
        message = _Message()
        for event in read_events(body).events:
            kind = self._kind(event)
            if kind != "ping":
                message.take(kind, event.document)
        return message.finish()

    def _kind(self, event: Event) -> str:
        kind = text_in(event.document.get("type", event.name))
        if event.name not in (None, kind):
            raise Unarrangeable("an event of two kinds")
        return kind

    def check(self, reply: JsonObject) -> None:
        """Look at kind, end, usage and blocks."""
        if reply.get("type") != "message" or reply.get("error") or not text_in(reply.get("stop_reason")):
            raise Unarrangeable("no message, or one without an end")
        number_in(object_in(reply.get("usage")).get("output_tokens"))
        for block in objects_in(reply.get("content")):
            check_block(block)

    def spread(self, reply: JsonObject, form: StreamForm) -> bytes:
        """Write the events in their order, without pings."""
        usage: JsonObject = reply["usage"]
        last = {key: usage[key] for key in USAGE_TOLD_LAST if usage.get(key) is not None}
        first = {key: value for key, value in usage.items() if key not in last} | {"output_tokens": 0}
        untold = {key: None for key in (*TOLD_LAST, *TOLD_BESIDE) if key in reply}
        delta = {key: reply[key] for key in TOLD_LAST if key in reply}
        beside = {key: reply[key] for key in TOLD_BESIDE if key in reply}
        counts = {"output_tokens": usage["output_tokens"]} | last
        events: list[JsonObject] = [
            {"type": "message_start", "message": reply | {"content": []} | untold | {"usage": first}}
        ]
        for index, block in enumerate(reply["content"]):
            events += [event | {"index": index} for event in spread_block(block)]
        events.append({"type": "message_delta", "delta": delta, "usage": counts} | beside)
        events.append({"type": "message_stop"})
        return b"".join(write_document(event, event["type"]) for event in events)
