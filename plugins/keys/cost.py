"""What a request may cost, before it is sent, and what it did cost, after it has ended."""

import math
from collections.abc import Iterable
from typing import Final

from plugins.keys.account import NANOS
from proxy.exchange import Exchange, Request
from proxy.usage import Price, Usage

BYTES_PER_TOKEN: Final = 4
STREAMED_BYTES_PER_TOKEN: Final = 64
"""A chunk of OpenAI's with one token has about 260 bytes, one of plainer servers 150; some put several into one."""
NATIVE_STREAMED_BYTES_PER_TOKEN: Final = 16
"""The same of the native format, whose chunks of one token have about 24."""
FIRST_ERROR: Final = 400
CLIENT_LEFT: Final = 499

RAW: Final = "raw"
"""Operation of which neither usage nor cost is known."""
FREE: Final = frozenset({"models", "model", "version", "running", "count_tokens"})
"""Operations that no provider bills."""
WITHOUT_OUTPUT: Final = frozenset({"embeddings", "embed", "embed_batch"})
"""Operations whose replies are no tokens."""


def estimate(request: Request, prices: Iterable[Price | None], output_tokens: int) -> int:
    """Reckon what a request may cost, in billionths of a dollar, with the dearest who could answer.

    Args:
        prices: of those who could answer.
        output_tokens: reckoned with where the request sets no limit.
    """
    name = request.operation.name
    if name in FREE:
        return 0
    wanted = 0 if name in WITHOUT_OUTPUT else (_allowed(request) or output_tokens * _answers(request))
    usage = Usage(_tokens_of_body(request), wanted)
    return max((price_of(usage, price) for price in prices if price is not None), default=0)


def cost(exchange: Exchange, price: Price | None) -> int:
    """Reckon what an exchange has cost, in billionths of a dollar; what has no price counts nothing.

    What the provider did not say of its tokens is reckoned from the bytes: a stream that was cut, or one of a client
    that did not ask for the usage.
    """
    name, usage, status = exchange.request.operation.name, exchange.usage, exchange.status or CLIENT_LEFT
    if price is None or not exchange.attempts or exchange.is_cached or name in FREE or name == RAW:
        return 0
    if usage is None:
        if FIRST_ERROR <= status != CLIENT_LEFT:
            return 0
        usage = Usage()
    input_tokens = _tokens_of_body(exchange.request) if usage.input_tokens is None else usage.input_tokens
    output_tokens, is_cut = usage.output_tokens, exchange.error is not None or status == CLIENT_LEFT
    if (output_tokens is None or is_cut) and name not in WITHOUT_OUTPUT:
        output_tokens = max(output_tokens or 0, _tokens_sent(exchange))
    return price_of(Usage(input_tokens, output_tokens), price)


def price_of(usage: Usage, price: Price) -> int:
    """Tell what tokens cost, in billionths of a dollar, rounded up."""
    per_million = (usage.input_tokens or 0) * price.input_usd + (usage.output_tokens or 0) * price.output_usd
    return math.ceil(per_million * (NANOS // 1_000_000) - 1e-6)  # what floats add beyond a whole number is no cost


def _tokens_of_body(request: Request) -> int:
    return math.ceil(len(request.body) / BYTES_PER_TOKEN)


def _tokens_sent(exchange: Exchange) -> int:
    request = exchange.request
    each_bytes = BYTES_PER_TOKEN
    if request.is_streaming:
        is_native = request.operation.format == "native"
        each_bytes = NATIVE_STREAMED_BYTES_PER_TOKEN if is_native else STREAMED_BYTES_PER_TOKEN
    sent, allowed = math.ceil(exchange.bytes_out / each_bytes), _allowed(request)
    return sent if allowed is None else min(sent, allowed)


def _allowed(request: Request) -> int | None:
    """Tell how many output tokens a request allows in all; None if it does not say."""
    each = request.max_output_tokens
    return None if each is None else each * _answers(request)


def _answers(request: Request) -> int:
    """Tell how many answers are wanted at once; what is no number counts as one, and is for the provider to refuse."""
    document = request.document or {}
    settings = document.get("generationConfig")
    wanted = [document.get("n"), document.get("best_of")]
    if isinstance(settings, dict):
        wanted.append(settings.get("candidateCount"))
    return max([1, *(count for count in wanted if isinstance(count, int))])
