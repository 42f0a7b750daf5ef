"""The shared part of reading streams as text: cutting, collecting, and telling a cut stream from a whole one."""

from abc import abstractmethod

from proxy.errors import UpstreamCut, UpstreamProtocol
from proxy.formats.base import StreamReader
from proxy.formats.neutral import Completion
from proxy.formats.sse import EventSplitter, LineSplitter


class TextReader(StreamReader):
    """Reads a stream of events (or lines) and collects their text.

    Args:
        completion: filled in by the subclass while it reads; its text is set at the end.
    """

    def __init__(self, splitter: EventSplitter | LineSplitter, completion: Completion) -> None:
        self._splitter = splitter
        self._texts: list[str] = []
        self.result = completion

    @abstractmethod
    def read(self, event: bytes) -> list[str]:
        """Take in one event; return the pieces of text in it, none of them empty."""

    @abstractmethod
    def is_complete(self) -> bool:
        """Tell whether the stream was complete by the rules of its format."""

    def feed(self, data: bytes) -> list[str]:
        """Return the pieces of text."""
        found = [text for event in self._splitter.feed(data) for text in self.read(event)]
        self._texts += found
        return found

    def completion(self) -> Completion:
        """Return the whole answer."""
        try:
            self._texts += self.read(self._splitter.rest())
        except UpstreamProtocol:
            raise UpstreamCut("the stream ended in the middle of an event") from None
        if not self.is_complete():
            raise UpstreamCut("the stream ended before it was complete")
        self.result.text = "".join(self._texts)
        return self.result
