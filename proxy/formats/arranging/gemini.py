"""Gemini's responses: one of generateContent, and the several of streamGenerateContent, as events or as an array."""

from itertools import pairwise
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Arranger, StreamForm, Unarrangeable
from proxy.formats.arranging.material import (
    agree,
    dump_exactly,
    joined,
    load,
    number_in,
    object_in,
    objects_in,
    pieces_of,
    read_events,
    text_in,
    write_document,
)
from proxy.formats.fields import Json, as_object, as_text

PER_EVENT: Final = ("modelVersion", "responseId", "createTime")
"""What every event repeats; further fields of the response stand in the last alone."""
TEXT_KEYS: Final = ({"text"}, {"text", "thought"})
"""Parts that may be joined with their like; one with a signature must stay by itself, as the vendor says."""


class _Candidate:
    """One candidate as far as its events have told it."""

    def __init__(self) -> None:
        self._fields: JsonObject = {}
        self._content: JsonObject | None = None
        self._parts: list[JsonObject] | None = None
        self._texts: list[Json] = []
        """The pieces of the last part, if it is one of text."""
        self._sounds = 0

    def take(self, candidate: JsonObject) -> None:
        """Take in what one event tells. Raises Unarrangeable."""
        for key, value in candidate.items():
            if key == "content":
                self._take_content(object_in(value))
            else:
                agree(self._fields, key, value)

    def _take_content(self, content: JsonObject) -> None:
        self._content = {} if self._content is None else self._content
        for key, value in content.items():
            if key != "parts":
                agree(self._content, key, value)
        if "parts" in content:
            parts = objects_in(content["parts"])
            known = self._parts = [] if self._parts is None else self._parts
            if parts and known and _continues(known[-1], parts[0]):
                self._texts.append(parts.pop(0)["text"])
            for part in parts:
                self._take_part(known, part)

    def _take_part(self, known: list[JsonObject], part: JsonObject) -> None:
        self._join()
        self._sounds += str(as_object(part.get("inlineData")).get("mimeType")).startswith("audio/")
        known.append(part)
        self._texts = [part["text"]] if _is_text(part) else []

    def _join(self) -> None:
        if self._parts and self._texts:
            self._parts[-1] = self._parts[-1] | {"text": joined(self._texts)}

    def finish(self) -> JsonObject:
        """Return the whole candidate. Raises Unarrangeable."""
        self._join()
        if self._sounds > 1:
            raise Unarrangeable("sound in pieces, or several sounds")
        candidate = dict(self._fields)
        if self._content is not None:
            parts: JsonObject = {} if self._parts is None else {"parts": self._parts}
            candidate["content"] = self._content | parts
        return candidate


class GenerateArranger(Arranger):
    """Puts together and takes apart the replies of the two operations that differ only in this."""

    def collect(self, body: bytes) -> JsonObject:
        """Join the parts of every candidate; of the usage, which counts on, the last is taken."""
        reply: JsonObject = {}
        candidates: dict[int, _Candidate] = {}
        for document in self._documents(body):
            if document.get("error"):
                raise Unarrangeable("an error")
            for key, value in document.items():
                if key == "usageMetadata":
                    reply[key] = reply.get(key) if value is None else value
                elif key != "candidates":
                    agree(reply, key, value)
            for position, candidate in enumerate(objects_in(document.get("candidates", []))):
                index = _index(candidate, position)
                candidates.setdefault(index, _Candidate()).take(candidate)
        if sorted(candidates) != list(range(len(candidates))):
            raise Unarrangeable("a candidate is missing")
        if candidates:
            reply["candidates"] = [candidates[index].finish() for index in range(len(candidates))]
        return reply

    def _documents(self, body: bytes) -> list[JsonObject]:
        if body.lstrip()[:1] == b"[":
            return objects_in(load(body))
        events = read_events(body).events
        if any(name not in (None, "message") for name, _ in events):
            raise Unarrangeable("an event with a name")
        return [document for _, document in events]

    def check(self, reply: JsonObject) -> None:
        """Look at candidates and their ends; a blocked prompt has none."""
        if reply.get("error"):
            raise Unarrangeable("an error")
        candidates = objects_in(reply.get("candidates", []))
        is_blocked = bool(as_text(as_object(reply.get("promptFeedback")).get("blockReason")))
        if not candidates and ("candidates" in reply or not is_blocked):
            raise Unarrangeable("no candidates")
        for position, candidate in enumerate(candidates):
            if not text_in(candidate.get("finishReason")) or _index(candidate, position) != position:
                raise Unarrangeable("candidates out of order, or without an end")
            for part in objects_in(object_in(candidate.get("content", {})).get("parts", [])):
                _check_part(part)

    def spread(self, reply: JsonObject, form: StreamForm) -> bytes:
        """Write events; the last part of each candidate comes with its end, the usage and all else."""
        head = {key: reply[key] for key in PER_EVENT if key in reply}
        spread = [_spread_candidate(candidate) for candidate in reply.get("candidates", [])]
        documents = [{"candidates": [piece]} | head for *pieces, _ in spread for piece in pieces]
        documents.append(reply | ({"candidates": [pieces[-1] for pieces in spread]} if spread else {}))
        if form.is_array:
            return b"[" + b",\r\n".join(map(dump_exactly, documents)) + b"]"
        return b"".join(map(write_document, documents))


def _index(candidate: JsonObject, position: int) -> int:
    """Tell which candidate this is; the first may leave its 0 out, as protocol buffers do."""
    if "index" not in candidate and position:
        raise Unarrangeable("a candidate that does not say which it is")
    return number_in(candidate.get("index", 0))


def _is_text(part: JsonObject) -> bool:
    return part.keys() in TEXT_KEYS and isinstance(part["text"], str)


def _continues(before: JsonObject, part: JsonObject) -> bool:
    """Tell whether a part at the beginning of an event goes on with the last one of the event before."""
    return _is_text(before) and _is_text(part) and before.get("thought", ...) == part.get("thought", ...)


def _check_part(part: JsonObject) -> None:
    call = as_object(part.get("functionCall"))
    if "partialArgs" in call or "willContinue" in call:
        raise Unarrangeable("a call in pieces")


def _spread_candidate(candidate: JsonObject) -> list[JsonObject]:
    """Cut a candidate into what each event tells of it; the last has its end."""
    content = candidate.get("content", {})
    groups = _groups(content.get("parts", []))
    index = {"index": candidate["index"]} if "index" in candidate else {}
    pieces = [{"content": content | {"parts": parts}} | index for parts in groups]
    return [*pieces[:-1], candidate | pieces[-1]] if pieces else [candidate]


def _groups(parts: list[JsonObject]) -> list[list[JsonObject]]:
    """Divide parts among events; texts side by side stay in one event, or they would be taken for one text."""
    if any(_continues(*pair) for pair in pairwise(parts)):
        return [parts]
    groups: list[list[JsonObject]] = []
    for part in parts:
        texts = pieces_of(part["text"]) if _is_text(part) else []
        groups += [[part | {"text": text}] for text in texts] or [[part]]
    return groups
