"""What each wire format knows about its two forms of a reply."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from proxy.exchange import JsonObject


class Unarrangeable(ValueError):
    """This reply cannot be put into the other form without losing or adding something; never leaves this package."""


@dataclass(frozen=True, slots=True)
class StreamForm:
    """What a client asked of a stream besides its being one.

    Args:
        with_usage: OpenAI's `stream_options.include_usage`.
        is_array: Gemini's stream without `alt=sse`, a JSON array.
    """

    with_usage: bool = False
    is_array: bool = False


class Arranger(ABC):
    """The two forms of one operation's replies; instances hold no state."""

    def is_stream(self, body: bytes) -> bool:
        """Tell whether a recorded body is a stream rather than one JSON object."""
        return body.lstrip()[:1] != b"{"

    @abstractmethod
    def collect(self, body: bytes) -> JsonObject:
        """Read a whole stream as the reply that it tells.

        Raises:
            Unarrangeable: it is not complete, carries an error, or holds what nobody here knows how to put together.
        """

    @abstractmethod
    def check(self, reply: JsonObject) -> None:
        """Look whether a whole reply is complete, successful, and made of what is known here.

        Raises:
            Unarrangeable: it is not.
        """

    @abstractmethod
    def spread(self, reply: JsonObject, form: StreamForm) -> bytes:
        """Write a whole reply, which `check` let pass, as a stream.

        Raises:
            Unarrangeable: something that the form needs is missing.
        """
