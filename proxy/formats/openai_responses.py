"""OpenAI's responses API: requests, replies and streams to and from the neutral model."""

from proxy.errors import UpstreamRejected
from proxy.exchange import JsonObject
from proxy.formats.base import StreamWriter
from proxy.formats.fields import as_count, as_list, as_number, as_object, as_text, join_text, one_line
from proxy.formats.json_body import dump
from proxy.formats.neutral import CONTENT_FILTER, LENGTH, STOP, ChatRequest, Completion, Message, ReplyFacts
from proxy.formats.openai_chat import SYSTEM_ROLES, parse_reply, prefixed, split_system
from proxy.formats.openai_usage import read_usage, write_responses_usage
from proxy.formats.reading import TextReader, settled
from proxy.formats.sse import EventSplitter, parse_event, write_event
from proxy.usage import Usage


def read_responses(document: JsonObject) -> ChatRequest:
    """Read a request; items that are no messages are passed over, results of functions are tool turns."""
    given = document.get("input")
    messages = [Message("user", given)] if isinstance(given, str) else []
    for item in map(as_object, as_list(given)):
        if item.get("type") in (None, "message"):
            role = as_text(item.get("role")) or "user"
            messages.append(Message("system" if role in SYSTEM_ROLES else role, join_text(item.get("content"))))
        elif item["type"] == "function_call_output":
            messages.append(Message("tool", join_text(item.get("output"))))
    turns, system = split_system(messages, as_text(document.get("instructions")))
    return ChatRequest(
        turns,
        system,
        model=as_text(document.get("model")),
        max_output_tokens=as_count(document.get("max_output_tokens")),
        temperature=as_number(document.get("temperature")),
        top_p=as_number(document.get("top_p")),
        is_streaming=document.get("stream") is True,
    )


def _message(id_: str, text: str, status: str) -> JsonObject:
    content = [{"type": "output_text", "text": text, "annotations": []}] if status != "in_progress" else []
    return {"id": id_, "type": "message", "role": "assistant", "status": status, "content": content}


def _status(finish_reason: str) -> tuple[str, JsonObject | None]:
    reasons = {LENGTH: "max_output_tokens", CONTENT_FILTER: "content_filter"}
    if finish_reason in reasons:
        return "incomplete", {"reason": reasons[finish_reason]}
    return "completed", None


def _response(
    completion: Completion, status: str, incomplete: JsonObject | None, output: list[JsonObject]
) -> JsonObject:
    return {
        "id": prefixed("resp_", completion.id),
        "object": "response",
        "created_at": completion.created_s,
        "status": status,
        "error": None,
        "incomplete_details": incomplete,
        "instructions": None,
        "metadata": {},
        "model": completion.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None if status == "in_progress" else write_responses_usage(completion.usage),
    }


def _finished(completion: Completion) -> JsonObject:
    status, incomplete = _status(completion.finish_reason)
    message = _message(prefixed("msg_", completion.id), completion.text, status)
    return _response(completion, status, incomplete, [message])


def write_responses_reply(completion: Completion) -> bytes:
    """Write a whole reply."""
    return dump(_finished(completion))


def _read_response(response: JsonObject) -> Completion:
    if response.get("status") == "failed":
        raise UpstreamRejected(one_line(response.get("error")))
    items = map(as_object, as_list(response.get("output")))
    texts = [join_text(item.get("content")) for item in items if item.get("type") == "message"]
    reason = as_object(response.get("incomplete_details")).get("reason")
    reasons = {"max_output_tokens": LENGTH, "content_filter": CONTENT_FILTER}
    completion = Completion(
        id=as_text(response.get("id")) or "",
        model=as_text(response.get("model")) or "",
        text="".join(texts),
        finish_reason=reasons.get(as_text(reason) or "", STOP if response.get("status") == "completed" else ""),
        usage=read_usage(response.get("usage")) or Usage(),
        created_s=int(as_number(response.get("created_at")) or 0),
    )
    return settled(completion)


def read_responses_reply(body: bytes) -> Completion:
    """Read a whole reply."""
    return _read_response(parse_reply(body))


class ResponsesWriter(StreamWriter):
    """Writes the events of one message with one part of text, numbered."""

    def __init__(self, opening: Completion) -> None:
        self._opening = opening
        self._number = 0
        self._place: JsonObject = {"item_id": prefixed("msg_", opening.id), "output_index": 0, "content_index": 0}

    def start(self) -> bytes:
        """Return the events up to the first delta."""
        begun = _response(self._opening, "in_progress", None, [])
        item = _message(self._place["item_id"], "", "in_progress")
        return b"".join(
            (
                self._event("response.created", {"response": begun}),
                self._event("response.in_progress", {"response": begun}),
                self._event("response.output_item.added", {"output_index": 0, "item": item}),
                self._event("response.content_part.added", self._place | {"part": self._part("")}),
            )
        )

    def delta(self, text: str) -> bytes:
        """Return one delta."""
        return self._event("response.output_text.delta", self._place | {"delta": text, "logprobs": []})

    def finish(self, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Return the events that close part, item and response."""
        finished = _finished(completion)
        finished["output"][0]["id"] = self._place["item_id"]
        text = completion.text
        return b"".join(
            (
                self._event("response.output_text.done", self._place | {"text": text, "logprobs": []}),
                self._event("response.content_part.done", self._place | {"part": self._part(text)}),
                self._event("response.output_item.done", {"output_index": 0, "item": finished["output"][0]}),
                self._event(f"response.{finished['status']}", {"response": finished}),
            )
        )

    def _part(self, text: str) -> JsonObject:
        return {"type": "output_text", "text": text, "annotations": []}

    def _event(self, kind: str, fields: JsonObject) -> bytes:
        event = write_event(dump({"type": kind, "sequence_number": self._number} | fields), kind)
        self._number += 1
        return event


class ResponsesReader(TextReader):
    """Reads the text deltas; the rest of the answer stands in the last event."""

    def __init__(self) -> None:
        super().__init__(EventSplitter())
        self._is_done = False

    def is_complete(self) -> bool:
        """Tell whether the last event came."""
        return self._is_done

    def read(self, event: bytes) -> list[str]:
        """Take in one event."""
        name, data = parse_event(event)
        if not data.strip() or data.strip() == b"[DONE]":
            return []
        document = parse_reply(data)
        kind = as_text(document.get("type")) or name
        if kind == "error":
            raise UpstreamRejected(one_line(document))
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._is_done = True
            self.result = _read_response(as_object(document.get("response")))
        text = as_text(document.get("delta")) if kind == "response.output_text.delta" else None
        return [text] if text else []
