"""Calls of tools in OpenAI's chat: fragments joined by their index, and calls cut into fragments."""

from dataclasses import dataclass, field
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Unarrangeable
from proxy.formats.arranging.material import (
    agree,
    joined,
    number_in,
    object_in,
    objects_in,
    pieces_of,
    take_once,
    text_in,
)
from proxy.formats.fields import Json

CALL_KEYS: Final = ("tool_calls", "function_call")
REPEATED: Final = ("id", "type")
"""What some servers repeat in every fragment of a call."""


@dataclass(slots=True)
class _Call:
    """One call as far as its fragments have told it; `function_call` has only a function."""

    fields: JsonObject = field(default_factory=dict)
    function: JsonObject = field(default_factory=dict)
    arguments: list[Json] = field(default_factory=list)

    def take_function(self, function: JsonObject) -> None:
        for key, value in function.items():
            if key == "arguments":
                self.arguments.append(value)
            elif key == "name":
                agree(self.function, key, value)
            else:
                take_once(self.function, key, value)

    def finish_function(self) -> JsonObject:
        return self.function | ({"arguments": joined(self.arguments)} if self.arguments else {})


class ToolCalls:
    """The calls of one message."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}
        self._legacy: _Call | None = None
        self._empty: JsonObject = {}

    def take(self, key: str, value: Json) -> None:
        """Take in `tool_calls` or `function_call` of a delta. Raises Unarrangeable."""
        if not value:
            self._empty[key] = self._empty.get(key) if value is None else value
        elif key == "function_call":
            self._legacy = self._legacy or _Call()
            self._legacy.take_function(object_in(value))
        else:
            for position, fragment in enumerate(objects_in(value)):
                self._take_fragment(position, fragment)

    def _take_fragment(self, position: int, fragment: JsonObject) -> None:
        index = number_in(fragment.get("index", position))
        is_new = index not in self._calls
        if not is_new and "index" not in fragment:
            raise Unarrangeable("a fragment that does not say of which call")
        call = self._calls.setdefault(index, _Call())
        for key, value in fragment.items():
            if key == "function":
                call.take_function(object_in(value))
            elif key in REPEATED:
                agree(call.fields, key, value or None)
            elif key != "index":
                take_once(call.fields, key, value)

    def finish(self) -> JsonObject:
        """Return the calls as the message's fields. Raises Unarrangeable."""
        message = dict(self._empty)
        if self._legacy is not None:
            message["function_call"] = self._legacy.finish_function()
        if self._calls:
            if sorted(self._calls) != list(range(len(self._calls))):
                raise Unarrangeable("a call is missing")
            calls = [self._calls[index] for index in range(len(self._calls))]
            message["tool_calls"] = [{**call.fields, "function": call.finish_function()} for call in calls]
            check_calls(message)
        return message


def check_calls(message: JsonObject) -> None:
    """Look whether the calls of a whole message are calls of functions.

    Raises:
        Unarrangeable: custom tools, say, whose fragments are not in the vendor's own types.
    """
    for position, call in enumerate(objects_in(message.get("tool_calls") or [])):
        if call.get("type") not in ("function", None) or number_in(call.get("index", position)) != position:
            raise Unarrangeable("a call that is none of a function, or out of order")
        _check_function(object_in(call.get("function")))
    if message.get("function_call"):
        _check_function(object_in(message["function_call"]))


def _check_function(function: JsonObject) -> None:
    text_in(function.get("name"))
    text_in(function.get("arguments", ""))


def spread_calls(message: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    """Cut a message's calls into fragments.

    Returns:
        The fields that hold no calls, for the delta that opens the message, and a delta for each fragment.
    """
    empty: JsonObject = {key: message[key] for key in CALL_KEYS if key in message and not message[key]}
    deltas: list[JsonObject] = []
    if message.get("function_call"):
        deltas += [{"function_call": function} for function in _fragments(message["function_call"])]
    for index, call in enumerate(message.get("tool_calls") or []):
        first, *rest = _fragments(call["function"])
        deltas.append({"tool_calls": [{"index": index, **call, "function": first}]})
        deltas += [{"tool_calls": [{"index": index, "function": function}]} for function in rest]
    return empty, deltas


def _fragments(function: JsonObject) -> list[JsonObject]:
    if "arguments" not in function:
        return [function]
    return [{**function, "arguments": ""}, *({"arguments": piece} for piece in pieces_of(function["arguments"]))]
