"""The built-in provider: answers every model and every format without a network, the same question always alike."""

import asyncio
import hashlib
import re
import struct
import time
from collections.abc import AsyncIterator
from typing import Final

from proxy.errors import UnknownPath
from proxy.exchange import Exchange, Reply
from proxy.formats.base import Format, StreamWriter
from proxy.formats.neutral import LENGTH, ChatRequest, Completion, ReplyFacts
from proxy.formats.registry import FORMATS
from proxy.providers.base import LocalProvider
from proxy.usage import Usage

TOKEN: Final = re.compile(r"\s*\S+|\s+$")
"""Echo's own tokenizer: a word with the white space before it. Its usage counts are exact in these tokens."""

CHAT_OPERATIONS: Final = frozenset({"chat", "completions", "responses", "messages", "generate", "stream_generate"})
EMBEDDING_SIZE: Final = 64


def tokens(text: str) -> list[str]:
    """Split a text into echo's tokens; joined they give the text again."""
    return TOKEN.findall(text)


def embedding(text: str) -> list[float]:
    """Make a vector of length 1 that depends on nothing but the text.

    Returns:
        64 floats.
    """
    digest = b"".join(hashlib.sha256(b"%d:%b" % (part, text.encode("utf-8", "replace"))).digest() for part in range(4))
    raw = [value / 32767.5 - 1.0 for value in struct.unpack(f"<{EMBEDDING_SIZE}H", digest)]
    norm = sum(value * value for value in raw) ** 0.5 or 1.0
    return [value / norm for value in raw]


class EchoProvider(LocalProvider):
    """Answers `Echo: <the last user text>`, cut at the number of tokens the client allows."""

    def speaks(self, format_name: str) -> bool:
        """Echo answers every format."""
        return format_name in FORMATS

    def answer(self, exchange: Exchange) -> Reply:
        """Answer in the format of the client's path."""
        request = exchange.request
        wire = FORMATS[request.operation.format]
        document = request.document or {}
        name = request.operation.name
        if name in ("embeddings", "embed", "embed_batch"):
            return self._embed(exchange, wire)
        if name == "model":
            return Reply(body=wire.write_model(request.model or "echo", int(time.time())))
        if name == "count_tokens":
            count = self._input_tokens(wire.read_request(request.operation, document))
            return Reply(body=wire.write_token_count(count), usage=Usage(count, 0), served_model=request.model)
        if name not in CHAT_OPERATIONS:
            raise UnknownPath(f"the echo provider has nothing at {request.path.decode('latin-1')}", provider=self.name)
        return self._chat(exchange, wire, wire.read_request(request.operation, document))

    @staticmethod
    def _input_tokens(chat: ChatRequest) -> int:
        texts = [message.text for message in chat.messages]
        return sum(len(tokens(text)) for text in [chat.system or "", *texts])

    def _embed(self, exchange: Exchange, wire: Format) -> Reply:
        request = exchange.request
        document = request.document or {}
        texts = wire.read_embedding_inputs(request.operation, document)
        usage = Usage(sum(len(tokens(text)) for text in texts), 0)
        model = request.model or "echo"
        body = wire.write_embeddings(
            request.operation, [embedding(text) for text in texts], model=model, usage=usage, document=document
        )
        return Reply(body=body, usage=usage, served_model=model)

    def _chat(self, exchange: Exchange, wire: Format, chat: ChatRequest) -> Reply:
        request = exchange.request
        words = tokens(f"Echo: {chat.last_text}")
        limit = request.max_output_tokens
        is_cut = limit is not None and limit < len(words)
        if is_cut:
            words = words[:limit]
        usage = Usage(self._input_tokens(chat), len(words))
        whole = Completion(
            exchange.id, request.model or "echo", "".join(words), usage=usage, created_s=int(time.time())
        )
        if is_cut:
            whole.finish_reason = LENGTH
        if not request.is_streaming:
            body = wire.write_reply(request.operation, whole, self._facts(exchange))
            return Reply(body=body, usage=usage, served_model=whole.model)
        opening = Completion(whole.id, whole.model, "", usage=Usage(usage.input_tokens, 0), created_s=whole.created_s)
        writer = wire.stream_writer(request.operation, opening, chat.include_usage)
        return Reply(
            headers=((b"Content-Type", wire.stream_content_type),),
            events=self._stream(writer, words, whole, exchange),
            usage=usage,
            served_model=whole.model,
        )

    def _facts(self, exchange: Exchange) -> ReplyFacts:
        latency_ms = round((time.monotonic() - exchange.received_s) * 1000, 1)
        return ReplyFacts(provider=self.name, latency_ms=latency_ms, trace_id=exchange.trace_id)

    async def _stream(
        self, writer: StreamWriter, words: list[str], whole: Completion, exchange: Exchange
    ) -> AsyncIterator[bytes]:
        delay_s = self.settings.chunk_delay
        if opening := writer.start():
            yield opening
        for word in words:
            if delay_s:
                await asyncio.sleep(delay_s)
            yield writer.delta(word)
        yield writer.finish(whole, self._facts(exchange))
