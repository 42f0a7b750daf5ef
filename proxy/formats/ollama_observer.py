"""Watching Ollama replies pass by, and what a whole one says about itself."""

from proxy.exchange import JsonObject
from proxy.formats.fields import as_count, as_text, known_usage, one_line
from proxy.formats.observing import Readings, StreamObserver
from proxy.usage import Usage


def read_usage(document: JsonObject) -> Usage | None:
    """Read the counters of the last line; Ollama leaves out those it does not know."""
    return known_usage(Usage(as_count(document.get("prompt_eval_count")), as_count(document.get("eval_count"))))


def read_whole(document: JsonObject) -> Readings:
    """Read what a whole reply says about itself."""
    error = document.get("error")
    return read_usage(document), as_text(document.get("model")), one_line(error) if error else None


class LinesObserver(StreamObserver):
    """Watches lines of `/api/chat` and `/api/generate`; complete at `done: true`."""

    def feed(self, data: bytes) -> None:
        """Look at the next body bytes."""
        if self._is_settled and not self._held and data.endswith(b"\n") and self.is_dull(data):
            return
        self.take(data)

    def is_dull(self, data: bytes) -> bool:
        """Tell whether no line is the last one or an error."""
        ends = data.count(b'"done"') - data.count(b'"done":false')
        return (ends == 0 or ends == data.count(b'"done": false')) and data.find(b'"error"') < 0

    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one line."""
        if document.get("error"):
            if not self.is_complete:
                self.error = self.error or one_line(document["error"])
            return
        self.served_model = self.served_model or as_text(document.get("model"))
        if document.get("done") is True:
            self.is_complete = self.has_output = True
            self.usage = read_usage(document) or self.usage
        message = document.get("message")
        if isinstance(message, dict):
            self.has_output |= any(message.get(key) for key in ("content", "thinking", "tool_calls"))
        else:
            self.has_output |= bool(document.get("response") or document.get("thinking"))
            self.has_output |= "response" not in document
        self._is_settled = self.has_output

    def _begins_whole(self, data: bytes) -> bool:
        return False

    def _last_end(self, held: bytearray, start: int) -> int:
        return held.rfind(b"\n", start) + 1

    def _split(self, block: bytes) -> list[bytes]:
        return block.split(b"\n")

    def _parse(self, event: bytes) -> tuple[str | None, bytes]:
        return None, event
