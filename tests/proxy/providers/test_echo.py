"""The built-in provider: deterministic, honest in its counts, complete in every format."""

import math
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.models import ProviderSettings
from proxy.errors import UnknownPath
from proxy.exchange import Exchange, JsonObject, Operation, Reply, Request
from proxy.formats.registry import FORMATS
from proxy.providers.echo import EchoProvider, embedding, tokens

QUESTION = "What  is the\ncapital of France?"
ANSWER = f"Echo: {QUESTION}"
ANSWER_TOKENS = 7
QUESTION_TOKENS = 6


def echo() -> EchoProvider:
    return EchoProvider("echo", ProviderSettings.model_validate({"type": "echo", "models": ["*"]}))


def body(format_name: str, operation: str, question: str = QUESTION, limit: int | None = None) -> JsonObject:
    """A request of each conversation operation there is."""
    turns = [{"role": "user", "content": question}]
    if format_name == "gemini":
        config = {} if limit is None else {"generationConfig": {"maxOutputTokens": limit}}
        return {"contents": [{"role": "user", "parts": [{"text": question}]}], **config}
    if format_name == "ollama":
        options = {"stream": False} if limit is None else {"stream": False, "options": {"num_predict": limit}}
        asked: JsonObject = {"prompt": question} if operation == "generate" else {"messages": turns}
        return {"model": "m", **asked, **options}
    if format_name == "native":
        return {"prompt": question} if limit is None else {"prompt": question, "maxTokens": limit}
    key = "max_output_tokens" if operation == "responses" else "max_tokens"
    asked = {"input": question} if operation == "responses" else {"messages": turns}
    asked = {"prompt": question} if operation == "completions" else asked
    return {"model": "m", **asked} if limit is None else {"model": "m", **asked, key: limit}


def exchange(operation: Operation, document: JsonObject) -> Exchange:
    wire = FORMATS[operation.format]
    model, is_streaming, limit = wire.interpret(operation, "m" if "{model}" in operation.path else None, document)
    request = Request(
        operation,
        method=operation.method,
        path=operation.path.encode(),
        document=document,
        model=model,
        is_streaming=is_streaming,
        max_output_tokens=limit,
    )
    return Exchange(request, id="req_1", received_s=0.0)


def ask(format_name: str, name: str, document: JsonObject) -> Reply:
    return echo().answer(exchange(FORMATS[format_name].operation(name), document))


CONVERSATIONS = [
    ("openai", "chat"),
    ("openai", "completions"),
    ("openai", "responses"),
    ("anthropic", "chat"),
    ("gemini", "generate"),
    ("ollama", "chat"),
    ("ollama", "generate"),
    ("native", "chat"),
]


@pytest.mark.parametrize(("format_name", "name"), CONVERSATIONS)
def test_reply_repeats_the_question_and_counts_its_own_tokens(format_name: str, name: str) -> None:
    wire = FORMATS[format_name]

    reply = ask(format_name, name, body(format_name, name))

    completion = wire.read_reply(wire.operation(name), reply.body)
    assert (completion.text, completion.finish_reason) == (ANSWER, "stop")
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (QUESTION_TOKENS, ANSWER_TOKENS)
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (QUESTION_TOKENS, ANSWER_TOKENS)


@pytest.mark.parametrize(("format_name", "name"), CONVERSATIONS)
def test_limit_on_output_cuts_the_reply_and_says_so(format_name: str, name: str) -> None:
    wire = FORMATS[format_name]

    reply = ask(format_name, name, body(format_name, name, limit=3))

    completion = wire.read_reply(wire.operation(name), reply.body)
    assert (completion.text, completion.finish_reason) == ("Echo: What  is", "length")
    assert completion.usage.output_tokens == 3


def test_limit_of_exactly_the_reply_cuts_nothing() -> None:
    reply = ask("openai", "chat", body("openai", "chat", limit=ANSWER_TOKENS))

    assert FORMATS["openai"].read_reply(FORMATS["openai"].operation("chat"), reply.body).finish_reason == "stop"


STREAMS = [
    ("openai", "chat", {"stream": True}),
    ("openai", "completions", {"stream": True}),
    ("openai", "responses", {"stream": True}),
    ("anthropic", "chat", {"stream": True}),
    ("gemini", "stream_generate", {}),
    ("ollama", "chat", {"stream": True}),
    ("ollama", "generate", {"stream": True}),
    ("native", "chat", {"stream": True}),
]


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize(("format_name", "name", "more"), STREAMS)
async def test_stream_says_the_same_as_the_whole_reply(
    format_name: str, name: str, more: JsonObject, limit: int | None
) -> None:
    wire = FORMATS[format_name]
    operation = wire.operation(name)
    reader, observer = wire.stream_reader(operation), wire.observer(operation, True)

    reply = ask(format_name, name, body(format_name, name, limit=limit) | more)

    assert reply.events is not None
    events = [event async for event in reply.events]
    text = ""
    for event in events:
        observer.feed(event)
        text += "".join(reader.feed(event))
    observer.finish()
    completion = reader.completion()
    assert text == (ANSWER if limit is None else "Echo: What  is")
    assert completion.finish_reason == ("stop" if limit is None else "length")
    assert (observer.is_complete, observer.error) == (True, None)
    assert dict(reply.headers)[b"Content-Type"] == wire.stream_content_type


@pytest.mark.parametrize(("format_name", "name"), CONVERSATIONS)
def test_same_question_is_always_answered_alike(format_name: str, name: str) -> None:
    def text() -> bytes:
        reply = ask(format_name, name, body(format_name, name))
        return re.sub(rb'"(created|created_at|completed_at|latencyMs|\w*duration)":("[^"]*"|[\d.]+)', b"", reply.body)

    assert text() == text()


def test_system_text_and_all_turns_count_as_input() -> None:
    document = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one two three"},
            {"role": "assistant", "content": "four"},
            {"role": "user", "content": "five"},
        ],
    }

    reply = ask("openai", "chat", document)

    assert reply.usage is not None
    assert reply.usage.input_tokens == 2 + 3 + 1 + 1


@pytest.mark.parametrize(("format_name", "key"), [("anthropic", "input_tokens"), ("gemini", "totalTokens")])
def test_tokens_are_counted_as_a_reply_would(format_name: str, key: str) -> None:
    reply = ask(format_name, "count_tokens", body(format_name, "count_tokens"))

    assert orjson.loads(reply.body)[key] == QUESTION_TOKENS


PART = {"content": {"parts": [{"text": "a b"}]}}
EMBEDDINGS = [
    ("openai", "embeddings", {"model": "m", "input": "a b"}),
    ("ollama", "embed", {"model": "m", "input": "a b"}),
    ("ollama", "embeddings", {"model": "m", "prompt": "a b"}),
    ("gemini", "embed", PART),
    ("gemini", "embed_batch", {"requests": [{"model": "models/m", **PART}]}),
]


def numbers(document: object) -> list[float]:
    """Find the one list of floats in a document."""
    if isinstance(document, list) and document and isinstance(document[0], float):
        return document
    children = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return next((found for child in children if (found := numbers(child))), [])


@pytest.mark.parametrize(("format_name", "name", "document"), EMBEDDINGS)
def test_embedding_is_the_same_in_every_format(format_name: str, name: str, document: JsonObject) -> None:
    reply = ask(format_name, name, document)

    assert numbers(orjson.loads(reply.body)) == pytest.approx(embedding("a b"))
    assert reply.usage is not None
    assert reply.usage.input_tokens == 2


def test_every_operation_that_reads_a_body_is_answered() -> None:
    provider = echo()
    texts = {"input": "a", "prompt": "a", "requests": [PART], **PART}
    documents = dict.fromkeys(("embeddings", "embed", "embed_batch"), texts)
    unanswered = []

    for wire in FORMATS.values():
        for operation in wire.operations:
            if operation.reads_body:
                document = documents.get(operation.name) or body(wire.name, operation.name)
                document = {**document, "model": "m"} if wire.name != "gemini" else document
                try:
                    provider.answer(exchange(operation, document))
                except UnknownPath:
                    unanswered.append((operation.format, operation.name))

    assert unanswered == []


def test_paths_that_only_a_real_provider_has_are_404() -> None:
    operation = Operation("openai", "raw", "POST", "/v1/{rest}", reads_body=False)

    with pytest.raises(UnknownPath, match="/files"):
        echo().answer(Exchange(Request(operation, method="POST", path=b"/files"), id="1", received_s=0.0))


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text


@given(st.text())
def test_embedding_has_length_one_and_depends_on_the_text_alone(text: str) -> None:
    vector = embedding(text)

    assert vector == embedding(text)
    assert len(vector) == 64
    assert math.isclose(sum(value * value for value in vector), 1.0)


@given(st.text(), st.text())
def test_different_texts_have_different_embeddings(one: str, other: str) -> None:
    assert (embedding(one) == embedding(other)) == (one == other)
