"""The shared part of reading replies and streams as text: cutting, collecting, and telling what is no whole answer."""

from abc import abstractmethod
from typing import Final

from proxy.errors import UpstreamCut, UpstreamProtocol
from proxy.exchange import JsonObject
from proxy.formats.base import StreamReader
from proxy.formats.fields import Json, as_list, join_text, kind_of
from proxy.formats.neutral import STOP, Completion
from proxy.formats.sse import EventSplitter, LineSplitter

MAX_TEXT_CHARS: Final = 32 << 20
"""Longest text of a stream: formats whose last event repeats the whole answer need all of it."""


def object_of(value: Json, what: str) -> JsonObject:
    """Return a part of a reply that must be an object. Raises UpstreamProtocol."""
    if isinstance(value, dict):
        return value
    raise UpstreamProtocol(f"the provider's reply cannot be read: {what} is {kind_of(value)}")


def list_of(value: Json, what: str) -> list[Json]:
    """Return a part of a reply that must be a list. Raises UpstreamProtocol."""
    if isinstance(value, list):
        return value
    raise UpstreamProtocol(f"the provider's reply cannot be read: {what} is {kind_of(value)}")


def text_of_content(value: Json, what: str) -> str:
    """Return the text of content: a string, a list of strings and parts, or null for none. Raises UpstreamProtocol."""
    if value is None or isinstance(value, str):
        return value or ""
    for part in list_of(value, what):
        if not isinstance(part, str):
            text_of_content(object_of(part, f"a part of {what}").get("text"), f"the text of {what}")
    return join_text(value)


def has_objects(value: Json) -> bool:
    """Tell whether a value is a list with an object in it, as calls of tools are."""
    return any(isinstance(item, dict) for item in as_list(value))


def settled(completion: Completion) -> Completion:
    """Return an answer as it was read, unless there is nothing in it: neither a text nor a reason for having none.

    Raises:
        UpstreamProtocol: so it is; a client would take it for an answer, and another provider can still be asked.
    """
    if not completion.text and not completion.finish_reason:
        raise UpstreamProtocol("the provider's reply has no text and does not say why")
    completion.finish_reason = completion.finish_reason or STOP
    return completion


class TextReader(StreamReader):
    """Reads a stream of events (or lines) and collects their text.

    Attributes:
        result: filled in by the subclass while it reads; its text is set at the end.
    """

    def __init__(self, splitter: EventSplitter | LineSplitter) -> None:
        self._splitter = splitter
        self._texts: list[str] = []
        self._chars = 0
        self.result = Completion("", "", "", finish_reason="")

    @abstractmethod
    def read(self, event: bytes) -> list[str]:
        """Take in one event; return the pieces of text in it, none of them empty."""

    @abstractmethod
    def is_complete(self) -> bool:
        """Tell whether the stream was complete by the rules of its format."""

    def feed(self, data: bytes) -> list[str]:
        """Return the pieces of text. Raises UpstreamProtocol: there is no end of them."""
        found = [text for event in self._splitter.feed(data) for text in self.read(event)]
        self._texts += found
        self._chars += sum(map(len, found))
        if self._chars > MAX_TEXT_CHARS:
            raise UpstreamProtocol(f"the stream has more than {MAX_TEXT_CHARS} characters and cannot be translated")
        return found

    def rest(self) -> list[str]:
        """Return the pieces of text in a last event that nothing ends."""
        try:
            found = self.read(self._splitter.rest())
        except UpstreamProtocol:
            raise UpstreamCut("the stream ended in the middle of an event") from None
        self._texts += found
        return found

    def completion(self) -> Completion:
        """Return the whole answer."""
        self.rest()
        if not self.is_complete():
            raise UpstreamCut("the stream ended before it was complete")
        self.result.text = "".join(self._texts)
        return settled(self.result)
