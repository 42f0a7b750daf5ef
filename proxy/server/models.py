"""The list of models, answered from the configuration in the client's format."""

import time
from typing import Final

from proxy.errors import UnknownModel, UnknownPath
from proxy.exchange import Exchange
from proxy.formats.registry import FORMATS
from proxy.reload import Generation
from proxy.server.client import JSON, ClientSink

LISTINGS: Final = frozenset({"models", "model"})
"""Operations answered here."""


def list_models(generation: Generation, exchange: Exchange, sink: ClientSink) -> None:
    """Answer the operations `models` (aliases and exact names) and `model` (one, also if only a pattern has it)."""
    operation = exchange.request.operation
    wire = FORMATS[operation.format]
    try:
        if operation.name == "models":
            body = wire.write_models(generation.candidates.exact_names(operation.format), int(time.time()))
        else:
            name = (exchange.request.model or "").removeprefix("models/")
            generation.candidates.find(name, operation.format)
            body = wire.write_model(name, int(time.time()))
    except (UnknownModel, UnknownPath) as error:
        sink.fail(error)
        return
    sink.start(200, (JSON,), len(body), exchange.request.method != "HEAD")
    sink.write(body)
    sink.finish()
