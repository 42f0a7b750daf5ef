"""The native API: strict about requests, complete in replies, honest at the end of streams."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import MalformedBody, UpstreamCut, UpstreamRejected
from proxy.formats.neutral import ChatRequest, Completion, Message, ReplyFacts
from proxy.formats.registry import FORMATS
from proxy.usage import Usage

WIRE = FORMATS["native"]
CHAT = WIRE.operation("chat")
ANSWER = Completion("1", "m-x", "Paris is it", "stop", Usage(9, 4))
FACTS = ReplyFacts("p1", False, 12.345, "t1")
REPLY = {
    "id": "1",
    "model": "m-x",
    "provider": "p1",
    "response": "Paris is it",
    "usage": {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13},
    "cached": False,
    "latencyMs": 12.3,
    "traceId": "t1",
    "finishReason": "stop",
}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "prompt: the field is missing (or give messages)"),
        ({"prompt": None}, "prompt: the field is missing (or give messages)"),
        ({"prompt": "a", "messages": []}, "prompt, messages: only one of the two may be given"),
        ({"prompt": 5}, "prompt: a string is needed, got a number"),
        ({"prompt": "a", "max_tokens": 5}, "max_tokens: unknown field; did you mean maxTokens?"),
        ({"prompt": "a", "MaxToken": 5}, "MaxToken: unknown field; did you mean maxTokens?"),
        ({"promt": "a"}, "promt: unknown field; did you mean prompt?"),
        ({"prompt": "a", "maxTokens": 0}, "maxTokens: a whole number above 0 is needed, got 0"),
        ({"prompt": "a", "maxTokens": 1.5}, "maxTokens: a whole number above 0 is needed, got 1.5"),
        ({"prompt": "a", "maxTokens": True}, "maxTokens: a whole number above 0 is needed, got a boolean"),
        ({"prompt": "a", "temperature": 3}, "temperature: a number from 0 to 2 is needed, got 3"),
        ({"prompt": "a", "temperature": "hot"}, "temperature: a number is needed, got a string"),
        ({"prompt": "a", "topP": -1}, "topP: a number from 0 to 1 is needed, got -1"),
        ({"prompt": "a", "stop": [1]}, "stop: a string or a list of strings is needed"),
        ({"prompt": "a", "stop": {}}, "stop: a string or a list of strings is needed"),
        ({"prompt": "a", "stream": "yes"}, "stream: true or false is needed, got a string"),
        ({"prompt": "a", "model": ""}, "model: a model's name is needed, got an empty string"),
        ({"prompt": "a", "model": []}, "model: a string is needed, got a list"),
        ({"messages": []}, "messages: a list of {role, content} is needed, got an empty list"),
        ({"messages": "a"}, "messages: a list of {role, content} is needed, got a string"),
        ({"messages": ["a"]}, "messages[0]: an object with role and content is needed, got a string"),
        (
            {"messages": [{"role": "user", "contents": "a"}]},
            "messages[0].contents: unknown field; did you mean content?",
        ),
        ({"messages": [{"role": "bot", "content": "a"}]}, "messages[0].role: one of system, user, assistant is needed"),
        ({"messages": [{"role": "user"}]}, "messages[0].content: a string is needed, got null"),
        ({"messages": [{"role": {}, "content": "a"}]}, "messages[0].role: one of system, user, assistant is needed"),
    ],
)
def test_request_is_refused_with_the_field_and_the_reason(document: dict[str, object], message: str) -> None:
    with pytest.raises(MalformedBody) as raised:
        WIRE.interpret(CHAT, None, document)

    assert raised.value.message == message


def test_unknown_field_far_from_all_names_those_that_are_known() -> None:
    with pytest.raises(MalformedBody, match="zzz: unknown field; known are prompt, messages, system, model"):
        WIRE.interpret(CHAT, None, {"zzz": 1})


KEYS = st.text(max_size=5) | st.sampled_from(["prompt", "messages", "stop"])
MESSAGES = st.lists(st.text() | st.dictionaries(st.sampled_from(["role", "content"]), st.text()))


@given(st.dictionaries(KEYS, st.text() | MESSAGES, max_size=3))
def test_any_object_is_read_or_refused(document: dict[str, object]) -> None:
    try:
        WIRE.read_request(CHAT, document)
    except MalformedBody:
        pass


def test_request_is_read() -> None:
    document = {
        "prompt": "Hi",
        "maxTokens": 10,
        "temperature": 0,
        "topP": 1,
        "stop": "x",
        "stream": True,
        "model": None,
    }

    chat = WIRE.read_request(CHAT, document)

    assert chat == ChatRequest([Message("user", "Hi")], None, None, 10, 0.0, 1.0, ["x"], is_streaming=True)
    assert WIRE.interpret(CHAT, None, document) == (None, True, 10)


def test_system_turns_join_the_system_text_and_written_requests_are_read_back() -> None:
    messages = [{"role": "system", "content": "Kind."}, {"role": "user", "content": "Hi"}]

    chat = WIRE.read_request(CHAT, {"messages": messages, "system": "Brief.", "model": "m"})

    assert (chat.system, chat.messages) == ("Brief.\n\nKind.", [("user", "Hi")])
    assert WIRE.read_request(CHAT, WIRE.write_request(chat)[1]) == chat


def test_reply_has_every_field() -> None:
    assert orjson.loads(WIRE.write_reply(CHAT, ANSWER, FACTS)) == REPLY
    assert WIRE.read_reply(CHAT, WIRE.write_reply(CHAT, ANSWER, FACTS)) == ANSWER


def test_stream_ends_with_the_whole_reply() -> None:
    writer = WIRE.stream_writer(CHAT, ANSWER)
    reader = WIRE.stream_reader(CHAT)

    stream = writer.start() + writer.delta("Paris ") + writer.delta("is it") + writer.finish(ANSWER, FACTS)

    assert stream.startswith(b'data: {"delta":"Paris "}\n\ndata: {"delta":"is it"}\n\nevent: done\ndata: {"id":"1",')
    assert orjson.loads(stream.rpartition(b"data: ")[2]) == REPLY
    assert reader.feed(stream) == ["Paris ", "is it"]
    assert reader.completion() == ANSWER


def test_error_in_a_stream_is_an_event_and_raised_by_the_reader() -> None:
    event = WIRE.error_event(CHAT, UpstreamCut("broken off", provider="p1"), "r1")

    assert event.startswith(b"event: error\ndata: ")
    assert orjson.loads(event.partition(b"data: ")[2]) == {
        "error": {"code": "upstream_cut", "message": "broken off", "requestId": "r1", "provider": "p1"}
    }
    with pytest.raises(UpstreamRejected, match="broken off"):
        WIRE.stream_reader(CHAT).feed(event)
    with pytest.raises(UpstreamCut):
        WIRE.stream_reader(CHAT).completion()
