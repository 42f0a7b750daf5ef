"""Blocks of Anthropic's messages: deltas joined to a block, and a block cut into deltas."""

from types import MappingProxyType
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Unarrangeable
from proxy.formats.arranging.material import (
    dump_exactly,
    joined,
    load_object,
    object_in,
    objects_in,
    pieces_of,
    text_in,
)
from proxy.formats.fields import Json

CALLS: Final = ("tool_use", "server_tool_use", "mcp_tool_use")
"""Blocks whose `input` comes as pieces of JSON."""
AT_ONCE: Final = ("redacted_thinking", "container_upload", "fallback")
"""Blocks that stand whole in the event that begins them, as do results of tools."""
RESULT: Final = "_tool_result"
DELTAS: Final = MappingProxyType(
    {
        "text_delta": ("text", ("text",)),
        "citations_delta": ("citation", ("text",)),
        "thinking_delta": ("thinking", ("thinking",)),
        "signature_delta": ("signature", ("thinking",)),
        "input_json_delta": ("partial_json", CALLS),
    }
)
"""By kind of delta: its one field, and the kinds of blocks it may belong to."""


class Block:
    """One block as far as its events have told it.

    Args:
        start: `content_block` of the event that begins it.
    """

    def __init__(self, start: JsonObject) -> None:
        _known_kind(start)
        self.is_over = False
        self._fields = start
        self._told: dict[str, list[Json]] = {}

    def take(self, delta: JsonObject) -> None:
        """Take in one delta. Raises Unarrangeable."""
        field, kinds = DELTAS.get(text_in(delta.get("type")), ("", ()))
        if self.is_over or self._fields["type"] not in kinds or delta.keys() != {"type", field}:
            raise Unarrangeable("a delta that this block cannot have")
        self._told.setdefault(field, []).append(delta[field])

    def stop(self) -> None:
        """Take in the end of the block. Raises Unarrangeable."""
        if self.is_over:
            raise Unarrangeable("a block that ends twice")
        self.is_over = True

    def finish(self) -> JsonObject:
        """Return the whole block. Raises Unarrangeable."""
        if not self.is_over:
            raise Unarrangeable("a block without an end")
        block, told = dict(self._fields), self._told
        for field in ("text", "thinking"):
            if field in told:
                block[field] = joined([block.get(field), *told[field]])
        if "signature" in told:
            if block.get("signature") or len(told["signature"]) > 1:
                raise Unarrangeable("two signatures")
            block["signature"] = told["signature"][0]
        if "citation" in told:
            block["citations"] = [*objects_in(block.get("citations") or []), *told["citation"]]
        arguments = joined(told.get("partial_json", []))
        if arguments:
            if block.get("input"):
                raise Unarrangeable("a call whose input is told twice")
            block["input"] = load_object(arguments)
        return block


def _known_kind(block: JsonObject) -> str:
    kind = text_in(block.get("type"))
    if kind in ("text", "thinking", *CALLS, *AT_ONCE) or kind.endswith(RESULT):
        return kind
    raise Unarrangeable("a block of an unknown kind")


def check_block(block: JsonObject) -> None:
    """Look whether a block is one that can be cut into deltas. Raises Unarrangeable."""
    kind = _known_kind(block)
    if kind == "text":
        text_in(block.get("text"))
        objects_in(block.get("citations") or [])
    elif kind == "thinking":
        text_in(block.get("thinking"))
        text_in(block.get("signature", ""))
    elif kind in CALLS:
        object_in(block.get("input"))


def spread_block(block: JsonObject) -> list[JsonObject]:
    """Write the events of a block that `check_block` let pass, without their index."""
    kind = block["type"]
    empty: JsonObject = {}
    deltas: list[JsonObject] = []
    if kind in ("text", "thinking"):
        empty[kind] = ""
        deltas += [{"type": f"{kind}_delta", kind: piece} for piece in pieces_of(block[kind])]
    if block.get("citations") and kind == "text":
        empty["citations"] = []
        deltas += [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
    if block.get("signature") and kind == "thinking":
        empty["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    if kind in CALLS:
        empty["input"] = {}
        text = dump_exactly(block["input"]).decode() if block["input"] else ""
        deltas += [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces_of(text)]]
    return [
        {"type": "content_block_start", "content_block": block | empty},
        *({"type": "content_block_delta", "delta": delta} for delta in deltas),
        {"type": "content_block_stop"},
    ]
