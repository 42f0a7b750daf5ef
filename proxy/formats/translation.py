"""From one format's reply to another's, by way of the neutral model; text only for now."""

from collections.abc import Callable

from proxy.exchange import Operation
from proxy.formats.base import Format, StreamWriter
from proxy.formats.neutral import Completion, ReplyFacts


class ReplyTranslation:
    """Translates one provider's reply for one client.

    Args:
        source: the provider's format and the operation that was called there.
        target: the client's format and operation.
        opening: id, model and time for the head of a stream.
        facts: asked when the reply is whole.
    """

    def __init__(
        self,
        source: tuple[Format, Operation],
        target: tuple[Format, Operation],
        *,
        is_streaming: bool,
        opening: Completion,
        facts: Callable[[], ReplyFacts],
    ) -> None:
        self._source, self._source_operation = source
        self._target, self._target_operation = target
        self._opening = opening
        self._facts = facts
        self._reader = self._source.stream_reader(self._source_operation)
        self._writer: StreamWriter = self._target.stream_writer(self._target_operation, opening)
        self.is_streaming = is_streaming
        self.content_type = self._target.stream_content_type if is_streaming else b"application/json"

    def open(self) -> bytes:
        """Return what the client's stream begins with."""
        return self._writer.start()

    def feed(self, data: bytes) -> bytes:
        """Turn the next bytes of the provider's stream."""
        return b"".join([self._writer.delta(text) for text in self._reader.feed(data)])

    def end(self, body: bytes) -> bytes:
        """Return the rest of the stream, or the whole reply."""
        if self.is_streaming:
            rest = b"".join([self._writer.delta(text) for text in self._reader.rest()])
            return rest + self._writer.finish(self._named(self._reader.completion()), self._facts())
        completion = self._named(self._source.read_reply(self._source_operation, body))
        return self._target.write_reply(self._target_operation, completion, self._facts())

    def _named(self, completion: Completion) -> Completion:
        completion.id = self._opening.id
        completion.model = completion.model or self._opening.model
        return completion
