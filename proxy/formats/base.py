"""What every wire format can do: read a request's intent, watch a response, and write replies and errors in kind."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from proxy.errors import MethodNotAllowed, ProxyError, TranslationUnsupported, Unauthorized
from proxy.exchange import JsonObject, Operation
from proxy.formats.neutral import ChatRequest, Completion, ReplyFacts
from proxy.sink import ResponseObserver
from proxy.usage import Usage

Intent = tuple[str | None, bool, int | None]
"""What routing needs of a request: the model (None where the path needs none), whether the reply is to be a stream of
events, and the most tokens the client asks for (None if it does not say)."""


class StreamWriter(ABC):
    """Writes one reply as a stream; each call returns whole events, in the order start, delta…, finish."""

    @abstractmethod
    def start(self) -> bytes:
        """Return the events that open the stream; may be empty."""

    @abstractmethod
    def delta(self, text: str) -> bytes:
        """Return the events for the next piece of text."""

    @abstractmethod
    def finish(self, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Return the events that end the stream.

        Args:
            completion: the whole answer; its text is what the deltas made together.
            facts: what the native format tells besides.
        """


class StreamReader(ABC):
    """Reads a provider's stream as text."""

    @abstractmethod
    def feed(self, data: bytes) -> list[str]:
        """Return the pieces of text in the next bytes, split anywhere.

        Raises:
            UpstreamRejected: the stream carries an error of the provider.
            UpstreamProtocol: it cannot be understood, or an event is larger than the limit.
        """

    @abstractmethod
    def rest(self) -> list[str]:
        """Return the pieces of text in an event that only the end of the stream completes.

        Raises:
            UpstreamCut: the stream ended in the middle of it.
        """

    @abstractmethod
    def completion(self) -> Completion:
        """Return the whole answer, once the stream has ended.

        Raises:
            UpstreamCut: the stream was not complete by the rules of its format.
        """


class Format(ABC):
    """One wire format; instances hold no state and are shared by all requests."""

    name: ClassVar[str]
    operations: ClassVar[tuple[Operation, ...]]
    stream_content_type: ClassVar[bytes] = b"text/event-stream; charset=utf-8"

    # -- requests ------------------------------------------------------------------------------------------------

    @abstractmethod
    def interpret(self, operation: Operation, path_model: str | None, document: JsonObject | None) -> Intent:
        """Read from a request what routing needs.

        Args:
            path_model: the value of `{model}` in the operation's path, decoded; None where the path has none.
            document: the parsed body, None where the operation reads none.
        Raises:
            MalformedBody: the model is missing or not a string, or `stream` is not a boolean.
        """

    @abstractmethod
    def upstream_path(self, operation: Operation, model: str | None, raw_path: bytes | None = None) -> bytes:
        """Return the vendor's path under `baseUrl`.

        Args:
            model: the provider's name for the model.
            raw_path: the client's path as on the wire, if the client speaks this format: API versions and
                percent-encoding are kept as far as the model is unchanged. None for a request written here; then the
                result may end with a query (`?alt=sse`).
        """

    # -- responses passing by ----------------------------------------------------------------------------------------

    @abstractmethod
    def observer(self, operation: Operation, is_streaming: bool) -> ResponseObserver:
        """Make the reader of one response.

        Args:
            is_streaming: the response is a stream, by its Content-Type; by the request where that is not known.
        """

    def as_repeated(self, whole: bytes, trace_id: str, latency_ms: float) -> bytes | None:
        """Say in a whole reply that was kept what is the later exchange's own.

        Returns:
            None where replies of this format say nothing of their exchange.
        """
        return None

    # -- errors ------------------------------------------------------------------------------------------------------

    def error_status(self, error: ProxyError) -> int:
        """Return the HTTP status this format's clients expect for an error."""
        return error.status

    @abstractmethod
    def error_body(self, error: ProxyError, request_id: str) -> bytes:
        """Return an error as a JSON body; the stable code and, if one was asked, the provider are in it."""

    @abstractmethod
    def error_event(self, operation: Operation, error: ProxyError, request_id: str) -> bytes:
        """Return an error as the last event of a stream that has begun; nothing may follow it."""

    def headers_for_error(self, error: ProxyError) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with an error, without Content-Type and framing.

        Source: RFC 9110: 10.2.3 (Retry-After in whole seconds, rounded up here), 10.2.1 (Allow), 11.6.1.
        """
        headers: list[tuple[bytes, bytes]] = []
        if error.retry_after_s is not None:
            headers.append((b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after_s))))
            headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(error.retry_after_s * 1000))))
        if isinstance(error, MethodNotAllowed):
            headers.append((b"Allow", ", ".join(error.allow).encode("latin-1", "replace")))
        if isinstance(error, Unauthorized):
            headers.append((b"WWW-Authenticate", b"Bearer"))
        return headers

    # -- the neutral side ----------------------------------------------------------------------------------------

    @abstractmethod
    def read_request(self, operation: Operation, document: JsonObject) -> ChatRequest:
        """Read a request of this format, leniently: unknown fields and parts that are not text are passed over."""

    @abstractmethod
    def write_request(self, chat: ChatRequest) -> tuple[str, JsonObject]:
        """Write a request in this format.

        Returns:
            The name of the operation and the document; see `operation` for the operation itself.
        """

    @abstractmethod
    def read_reply(self, operation: Operation, body: bytes) -> Completion:
        """Read a provider's whole reply.

        Raises:
            UpstreamRejected: it is an error of the provider.
            UpstreamProtocol: it is not what this operation answers.
        """

    @abstractmethod
    def write_reply(self, operation: Operation, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Write a whole reply; `facts` is what the native format tells besides."""

    @abstractmethod
    def stream_writer(self, operation: Operation, opening: Completion, include_usage: bool = False) -> StreamWriter:
        """Make the writer of one streamed reply.

        Args:
            opening: id, model, time and the usage known so far (the input's); the text is not read.
            include_usage: the client of an OpenAI stream asked for the usage chunk.
        """

    @abstractmethod
    def stream_reader(self, operation: Operation) -> StreamReader:
        """Make the reader of one streamed reply."""

    def operation(self, name: str) -> Operation:
        """Find the first operation of this name. Raises KeyError if there is none."""
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise KeyError(f"{self.name} has no operation {name}")

    # -- besides conversations ---------------------------------------------------------------------------------------

    def read_embedding_inputs(self, operation: Operation, document: JsonObject) -> list[str]:
        """Read the texts to be embedded; a list of token ids is given as their decimal numbers."""
        raise TranslationUnsupported(f"the {self.name} format has no embeddings")

    def write_embeddings(
        self,
        operation: Operation,
        vectors: Sequence[Sequence[float]],
        *,
        model: str,
        usage: Usage,
        document: JsonObject,
    ) -> bytes:
        """Write one vector for each input, as the request's document asks (`encoding_format`)."""
        raise TranslationUnsupported(f"the {self.name} format has no embeddings")

    def write_token_count(self, input_tokens: int) -> bytes:
        """Write the answer of the operation `count_tokens`."""
        raise TranslationUnsupported(f"the {self.name} format does not count tokens")

    def write_models(self, names: Sequence[str], created_s: int) -> bytes:
        """Write the list of models."""
        raise TranslationUnsupported(f"the {self.name} format lists no models")

    def write_model(self, name: str, created_s: int) -> bytes:
        """Write what is known about one model."""
        raise TranslationUnsupported(f"the {self.name} format lists no models")
