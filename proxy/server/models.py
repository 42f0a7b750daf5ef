"""Lists of models and the like, answered from the configuration in the client's format."""

import time
from collections.abc import Sequence

from proxy.callers import Identity
from proxy.exchange import Exchange, Reply
from proxy.formats.base import Format
from proxy.formats.ollama import OllamaFormat
from proxy.formats.registry import FORMATS
from proxy.reload.generation import Generation


def answer_listing(generation: Generation, exchange: Exchange) -> Reply | None:
    """Answer the operations `models`, `model`, `version` and `running`, as far as the configuration knows the answer.

    Returns:
        None where it does not, because models are configured by patterns only: then the provider is asked.
    """
    body = _listing(generation, exchange, FORMATS[exchange.request.operation.format])
    return None if body is None else Reply(body=body)


def _listing(generation: Generation, exchange: Exchange, wire: Format) -> bytes | None:
    request = exchange.request
    name = request.operation.name
    if name in ("models", "model"):
        known = generation.candidates.exact_names(wire.name)
        if name == "models":
            return wire.write_models(_shown_to(exchange.identity, known), int(time.time())) if known else None
        model = (request.model or "").removeprefix("models/")
        return wire.write_model(model, int(time.time())) if model in known else None
    if isinstance(wire, OllamaFormat) and name in ("version", "running"):
        return wire.write_version() if name == "version" else wire.write_running()
    return None


def _shown_to(caller: Identity | None, names: Sequence[str]) -> Sequence[str]:
    if caller is None or caller.may_use is None:
        return names
    return [name for name in names if caller.may_use(name)]
