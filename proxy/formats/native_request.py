"""Requests of the native API, read strictly: what we do not know is named, with the nearest key that we do."""

from difflib import get_close_matches
from typing import Any, Final

from proxy.errors import MalformedBody
from proxy.exchange import JsonObject
from proxy.formats.fields import kind_of
from proxy.formats.neutral import ChatRequest, Message
from proxy.formats.openai_chat import split_system

KEYS: Final = ("prompt", "messages", "system", "model", "maxTokens", "temperature", "topP", "stop", "stream")
ROLES: Final = ("system", "user", "assistant")


def read_native(document: JsonObject) -> ChatRequest:
    """Read `{prompt | messages, system, model, maxTokens, temperature, topP, stop, stream}`; null counts as absent.

    Raises:
        MalformedBody: an unknown key, a value of the wrong type, or not exactly one of `prompt` and `messages`.
    """
    for key in document:
        if key not in KEYS:
            raise MalformedBody(_unknown("", key, KEYS))
    given = {key: value for key, value in document.items() if value is not None}
    turns, system = split_system(_messages(given), _text(given, "system"))
    return ChatRequest(
        turns,
        system,
        model=read_model(given),
        max_output_tokens=_max_tokens(given),
        temperature=_number(given, "temperature", 2.0),
        top_p=_number(given, "topP", 1.0),
        stop=_stop(given),
        is_streaming=_is_streaming(given),
    )


def read_model(given: JsonObject) -> str | None:
    """Read `model`, which the native API may leave out."""
    model = _text(given, "model")
    if model == "":
        raise MalformedBody("model: a model's name is needed, got an empty string")
    return model


def _unknown(where: str, key: str, known: tuple[str, ...]) -> str:
    lowered = {name.lower(): name for name in known}
    near = get_close_matches(key[:64].replace("_", "").lower(), list(lowered), n=1, cutoff=0.6)
    hint = f"did you mean {lowered[near[0]]}?" if near else f"known are {', '.join(known)}"
    return f"{where}{key[:64]}: unknown field; {hint}"


def _messages(given: JsonObject) -> list[Message]:
    if "prompt" in given and "messages" in given:
        raise MalformedBody("prompt, messages: only one of the two may be given")
    if "prompt" in given:
        return [Message("user", _text(given, "prompt") or "")]
    if "messages" not in given:
        raise MalformedBody("prompt: the field is missing (or give messages)")
    messages = given["messages"]
    if not isinstance(messages, list) or not messages:
        found = "an empty list" if messages == [] else kind_of(messages)
        raise MalformedBody(f"messages: a list of {{role, content}} is needed, got {found}")
    return [_message(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _message(where: str, message: Any) -> Message:  # Any: the client's JSON
    if not isinstance(message, dict):
        raise MalformedBody(f"{where}: an object with role and content is needed, got {kind_of(message)}")
    for key in message:
        if key not in ("role", "content"):
            raise MalformedBody(_unknown(f"{where}.", key, ("role", "content")))
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise MalformedBody(f"{where}.role: one of {', '.join(ROLES)} is needed")
    if not isinstance(content, str):
        raise MalformedBody(f"{where}.content: a string is needed, got {kind_of(content)}")
    return Message(role, content)


def _text(given: JsonObject, key: str) -> str | None:
    value = given.get(key)
    if value is None or isinstance(value, str):
        return value
    raise MalformedBody(f"{key}: a string is needed, got {kind_of(value)}")


def _max_tokens(given: JsonObject) -> int | None:
    value = given.get("maxTokens")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        found = value if isinstance(value, int | float) and not isinstance(value, bool) else kind_of(value)
        raise MalformedBody(f"maxTokens: a whole number above 0 is needed, got {found}")
    return value


def _number(given: JsonObject, key: str, most: float) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedBody(f"{key}: a number is needed, got {kind_of(value)}")
    if not 0 <= value <= most:
        raise MalformedBody(f"{key}: a number from 0 to {most:g} is needed, got {value:g}")
    return float(value)


def _stop(given: JsonObject) -> list[str]:
    value = given.get("stop", [])
    stop = [value] if isinstance(value, str) else value
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in stop):
        raise MalformedBody("stop: a string or a list of strings is needed")
    return stop


def _is_streaming(given: JsonObject) -> bool:
    value = given.get("stream", False)
    if not isinstance(value, bool):
        raise MalformedBody(f"stream: true or false is needed, got {kind_of(value)}")
    return value
