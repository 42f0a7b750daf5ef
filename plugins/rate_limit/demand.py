"""What one request takes of each kind of limit: guessed when it comes, true when it has ended."""

import math
from dataclasses import dataclass
from typing import Final

from plugins.rate_limit.estimate import Estimator, Form, tokens_of_request
from plugins.rate_limit.partition import bounded
from proxy.callers import Counted
from proxy.exchange import Candidate, Exchange, Request
from proxy.usage import Price

FREE: Final = frozenset({"models", "model", "version", "running", "count_tokens", "none"})
"""Operations that read and write no tokens."""

MOST_TOKENS: Final = 1_000_000_000
"""Of one request: a provider that counts more errs, and nobody is to pay for that for years."""

FIRST_ERROR: Final = 400
CLIENT_LEFT: Final = 499


@dataclass(slots=True)
class Demand:
    """Tokens in and out, and what they cost.

    Args:
        price: None where none is configured: then nothing is known of the cost, and nothing is counted.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    price: Price | None = None

    def amount(self, counts: Counted) -> int:
        """Tell how much is taken of what a rule counts; cost in billionths of a US dollar, rounded up."""
        if counts == "totalTokens":
            return self.input_tokens + self.output_tokens
        if counts == "inputTokens":
            return self.input_tokens
        if counts == "outputTokens":
            return self.output_tokens
        if counts == "costUsd":
            return self._nano_usd()
        return 1

    def _nano_usd(self) -> int:
        price = self.price
        if price is None:
            return 0
        micro_usd = self.input_tokens * price.input_usd + self.output_tokens * price.output_usd
        return math.ceil(micro_usd * 1000 - 1e-6)  # what floats add beyond a whole number is no cost


@dataclass(slots=True)
class Guess:
    """What was guessed of a request, to learn from its answer.

    Args:
        model: what is learned is kept under this name.
        unlearned: input tokens as guessed from the text alone.
    """

    model: str
    unlearned: float
    demand: Demand


def guess(request: Request, target: Candidate, estimator: Estimator) -> Guess:
    """Guess what a request takes.

    Args:
        target: who may be asked first.
    """
    model, operation = bounded(target.model or request.model or ""), request.operation
    if operation.name in FREE or not request.body:
        return Guess(model, 0.0, Demand(price=target.price))
    unlearned = tokens_of_request(request.document, len(request.body))
    input_tokens = estimator.input_tokens(model, unlearned)
    output_tokens = 0
    if operation.streams:  # only what can be a stream generates text
        output_tokens = estimator.output_tokens(model, request.max_output_tokens, _choices(request))
    return Guess(model, unlearned, Demand(input_tokens, output_tokens, target.price))


def _choices(request: Request) -> int:
    wanted = (request.document or {}).get("n")
    return wanted if isinstance(wanted, int) and wanted > 0 else 1


def true_demand(exchange: Exchange, guessed: Guess, estimator: Estimator) -> Demand:
    """Tell what an exchange has taken, and learn from it.

    What the provider did not count is taken as guessed, and the output of a cut stream from its size. Nothing was
    taken by what never reached a provider, was refused by it, or came from the cache.
    """
    request, usage = exchange.request, exchange.usage
    price = exchange.attempt.price if exchange.attempt is not None else guessed.demand.price
    if exchange.is_cached or not _was_executed(exchange) or request.operation.name in FREE:
        return Demand(price=price)
    demand = Demand(guessed.demand.input_tokens, 0, price)
    if usage is not None and usage.input_tokens is not None:
        demand.input_tokens = min(usage.input_tokens, MOST_TOKENS)
        estimator.learn_input(guessed.model, guessed.unlearned, demand.input_tokens)
    is_cut = exchange.error is not None or exchange.status in (None, CLIENT_LEFT)
    known = None if usage is None or usage.output_tokens is None else min(usage.output_tokens, MOST_TOKENS)
    form = form_of(exchange)
    if known is not None and not is_cut:
        demand.output_tokens = known
        estimator.learn_output(guessed.model, known, exchange.bytes_out, form)
    elif request.operation.streams:
        sent = estimator.output_of_bytes(guessed.model, exchange.bytes_out, form)
        demand.output_tokens = max(known or 0, sent)
    return demand


def form_of(exchange: Exchange) -> Form:
    """Tell in what form the client gets its answer."""
    return Form(exchange.request.operation.format, exchange.request.is_streaming)


def _was_executed(exchange: Exchange) -> bool:
    """Tell whether a provider bills it: not what it answered with an error, nor what never came to it."""
    status = exchange.status or CLIENT_LEFT
    if status >= FIRST_ERROR and status != CLIENT_LEFT:
        return exchange.usage is not None and bool(exchange.usage.output_tokens)
    return bool(exchange.attempts)
