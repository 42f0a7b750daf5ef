"""A recorded reply in the other form of its format: a stream made whole, a whole reply made a stream; exact or not."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.exchange import Operation
from proxy.formats.arranging.anthropic import MessagesArranger
from proxy.formats.arranging.base import Arranger, StreamForm, Unarrangeable
from proxy.formats.arranging.gemini import GenerateArranger
from proxy.formats.arranging.material import dump_exactly, load_object
from proxy.formats.arranging.native import NativeArranger
from proxy.formats.arranging.ollama import LinesArranger
from proxy.formats.arranging.openai_chat import ChatArranger
from proxy.formats.arranging.openai_responses import ResponsesArranger

ARRANGERS: Final[Mapping[tuple[str, str], Arranger]] = MappingProxyType(
    {
        ("openai", "chat"): ChatArranger(is_chat=True),
        ("openai", "completions"): ChatArranger(is_chat=False),
        ("openai", "responses"): ResponsesArranger(),
        ("anthropic", "chat"): MessagesArranger(),
        ("gemini", "generate"): GenerateArranger(),
        ("gemini", "stream_generate"): GenerateArranger(),
        ("ollama", "chat"): LinesArranger(is_chat=True),
        ("ollama", "generate"): LinesArranger(is_chat=False),
        ("native", "chat"): NativeArranger(),
    }
)
"""By format and name of the operation."""


def rearrange(
    operation: Operation, body: bytes, *, is_streaming: bool, with_usage: bool = False, is_array: bool = False
) -> bytes | None:
    """Put a recorded reply into the form that a client asks for.

    Nothing is lost or made up: what the reply says is the same JSON afterwards, only cut or joined. A stream may be
    asked for from a stream, to have it with other options; its pieces are then cut anew. Reading a stream takes some
    7 us an event, so a caller on an event loop has long ones done in a thread.

    Args:
        body: the whole body of a successful reply, decompressed: a stream as it was sent, or one JSON object.
        is_streaming: a stream is wanted, else the whole reply.
        with_usage: the client of an OpenAI stream asked for the usage chunk (`stream_options.include_usage`).
        is_array: the client of a Gemini stream did not ask for `alt=sse`, and gets a JSON array.
    Returns:
        The body, or None if there is no exact one: the operation has no second form, the stream is cut, carries an
        error or does not tell its usage, or some part of it is of an unknown kind. Never raises.
    """
    arranger = ARRANGERS.get((operation.format, operation.name))
    if arranger is None:
        return None
    try:
        is_stream = arranger.is_stream(body)
        reply = arranger.collect(body) if is_stream else load_object(body)
        arranger.check(reply)
        if is_streaming:
            return arranger.spread(reply, StreamForm(with_usage, is_array))
        return dump_exactly(reply) if is_stream else body
    except (Unarrangeable, RecursionError):
        return None
