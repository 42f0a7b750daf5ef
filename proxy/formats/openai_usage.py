"""Token counts as OpenAI's endpoints give them, both the older and the newer names."""

from typing import Any

from proxy.exchange import JsonObject
from proxy.formats.fields import as_count, as_object, as_text, one_line
from proxy.formats.observing import Readings
from proxy.usage import Usage


def read_usage(usage: Any) -> Usage | None:  # Any: JSON from elsewhere
    """Read `usage` of chat, completions and embeddings (`prompt_tokens`) or responses (`input_tokens`)."""
    if not isinstance(usage, dict):
        return None
    get = usage.get
    taken = get("prompt_tokens") if "prompt_tokens" in usage else get("input_tokens")
    given = get("completion_tokens") if "completion_tokens" in usage else get("output_tokens")
    if not (taken.__class__ is given.__class__ is int and taken >= 0 <= given):  # as they nearly always are
        taken, given = as_count(taken), as_count(given)
        if taken is None and given is None:
            return None
    found = Usage(taken, given)
    if inputs := get("prompt_tokens_details") or get("input_tokens_details"):
        inputs = as_object(inputs)
        found.cache_read_tokens = as_count(inputs.get("cached_tokens"))
        if "cache_write_tokens" in inputs:
            found.cache_write_tokens = as_count(inputs["cache_write_tokens"])
    if outputs := get("completion_tokens_details") or get("output_tokens_details"):
        found.reasoning_tokens = as_count(as_object(outputs).get("reasoning_tokens"))
    return found


def write_chat_usage(usage: Usage) -> JsonObject:
    """Write `usage` of chat and completions; what is not known counts as 0, as the SDKs require numbers."""
    return {
        "prompt_tokens": usage.input_tokens or 0,
        "completion_tokens": usage.output_tokens or 0,
        "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0),
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def write_responses_usage(usage: Usage) -> JsonObject:
    """Write `usage` of responses."""
    return {
        "input_tokens": usage.input_tokens or 0,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.output_tokens or 0,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0),
    }


def read_whole(document: JsonObject) -> Readings:
    """Read what a whole reply of any of OpenAI's endpoints says about itself."""
    get = document.get
    error = get("error")
    return read_usage(get("usage")), as_text(get("model")), one_line(error) if error else None
