"""OpenAI's own SDK understands what the OpenAI format writes, replies, streams and errors alike."""

import httpx2
import openai
import orjson
import pytest
from openai.types import Completion as TextCompletion
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from proxy.errors import MalformedBody, TranslationUnsupported, Unauthorized, UpstreamCut, UpstreamRejected
from proxy.formats.neutral import ChatRequest, Completion, Message
from proxy.formats.registry import FORMATS
from proxy.usage import Usage

WIRE = FORMATS["openai"]
ANSWER = Completion("1", "gpt-x", "Paris is it", "length", Usage(9, 4, 3, 1, 2), created_s=7)
OPENING = Completion("1", "gpt-x", "", usage=Usage(9), created_s=7)


def client(body: bytes, status: int = 200, content_type: str = "text/event-stream") -> openai.OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers={"content-type": content_type})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(api_key="k", base_url="http://proxy.test/v1", http_client=http, max_retries=0)


def written_stream(name: str, include_usage: bool = False) -> bytes:
    writer = WIRE.stream_writer(WIRE.operation(name), OPENING, include_usage)
    return writer.start() + writer.delta("Paris ") + writer.delta("is it") + writer.finish(ANSWER)


def test_whole_replies_are_the_sdks_types() -> None:
    chat = ChatCompletion.model_validate_json(WIRE.write_reply(WIRE.operation("chat"), ANSWER), strict=True)
    text = TextCompletion.model_validate_json(WIRE.write_reply(WIRE.operation("completions"), ANSWER), strict=True)
    response = Response.model_validate_json(WIRE.write_reply(WIRE.operation("responses"), ANSWER))

    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("Paris is it", "length")
    assert chat.usage is not None
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.total_tokens) == (9, 4, 13)
    assert (text.choices[0].text, text.id, chat.id) == ("Paris is it", "cmpl-1", "chatcmpl-1")
    assert (response.output_text, response.status) == ("Paris is it", "incomplete")


@pytest.mark.parametrize("name", ["chat", "completions", "responses"])
def test_own_replies_and_streams_are_read_back(name: str) -> None:
    operation = WIRE.operation(name)
    reader = WIRE.stream_reader(operation)

    whole = WIRE.read_reply(operation, WIRE.write_reply(operation, ANSWER))
    texts = reader.feed(written_stream(name, include_usage=True))
    streamed = reader.completion()

    assert (texts, streamed.text) == (["Paris ", "is it"], "Paris is it")
    for completion in (whole, streamed):
        assert (completion.text, completion.finish_reason, completion.model) == ("Paris is it", "length", "gpt-x")
        assert (completion.usage, completion.created_s) == (ANSWER.usage, 7)


@pytest.mark.parametrize("include_usage", [False, True])
def test_sdk_reads_a_chat_stream_and_usage_only_if_asked(include_usage: bool) -> None:
    chunks = list(
        client(written_stream("chat", include_usage)).chat.completions.create(model="m", messages=[], stream=True)
    )

    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Paris is it"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [13] * include_usage
    assert (chunks[-1].choices == []) == include_usage


def test_sdk_reads_a_stream_of_responses_in_order() -> None:
    events = list(client(written_stream("responses")).responses.create(model="m", input="x", stream=True))

    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    assert events[-1].response.output_text == "Paris is it"  # type: ignore[union-attr]  # the terminal event has one


@pytest.mark.parametrize("name", ["chat", "responses"])
def test_sdk_raises_from_an_error_in_a_stream(name: str) -> None:
    error = UpstreamCut("the provider broke off", provider="p1")
    body = WIRE.error_event(WIRE.operation(name), error, "r1")
    sdk = client(body)

    def read() -> None:
        if name == "chat":
            list(sdk.chat.completions.create(model="m", messages=[], stream=True))
        else:
            list(sdk.responses.create(model="m", input="x", stream=True))

    with pytest.raises(openai.APIError) as raised:
        read()

    assert (raised.value.message, raised.value.code) == ("the provider broke off", "upstream_cut")


def test_sdk_raises_from_an_error_body() -> None:
    body = WIRE.error_body(Unauthorized("no key"), "r1")

    with pytest.raises(openai.AuthenticationError) as raised:
        client(body, 401, "application/json").models.list()

    assert (raised.value.code, raised.value.type) == ("invalid_api_key", "invalid_request_error")


def test_sdk_reads_embeddings_and_models() -> None:
    operation = WIRE.operation("embeddings")
    vectors, usage = [[1.0, -0.5], [0.25, 0.0]], Usage(3)
    as_lists = WIRE.write_embeddings(operation, vectors, model="e", usage=usage, document={})
    as_base64 = WIRE.write_embeddings(
        operation, vectors, model="e", usage=usage, document={"encoding_format": "base64"}
    )

    decoded = client(as_base64, content_type="application/json").embeddings.create(model="e", input=["a", "b"])
    listed = client(WIRE.write_models(["a", "b"], 7), content_type="application/json").models.list()

    assert [item.embedding for item in decoded.data] == vectors
    assert CreateEmbeddingResponse.model_validate_json(as_lists, strict=True).data[1].embedding == vectors[1]
    assert [model.id for model in listed.data] == ["a", "b"]
    assert Model.model_validate_json(WIRE.write_model("a", 7), strict=True).id == "a"


@pytest.mark.parametrize(
    ("given", "texts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], ["1 2"]), ([[1], [2, 3]], ["1", "2 3"]), (None, [])],
)
def test_inputs_to_embed_are_read(given: object, texts: list[str]) -> None:
    assert WIRE.read_embedding_inputs(WIRE.operation("embeddings"), {"input": given}) == texts


def test_chat_request_is_read_leniently() -> None:
    document = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "And kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "image_url"}, {"text": "there"}, 5]},
            {"role": "assistant", "content": None, "tool_calls": []},
            "rubbish",
        ],
        "max_tokens": 5,
        "max_completion_tokens": 3,
        "temperature": True,
        "stop": ["x", 3],
        "stream": True,
        "stream_options": {"include_usage": True},
        "new_field": {},
    }

    chat = WIRE.read_request(WIRE.operation("chat"), document)

    assert chat.system == "Be brief.\n\nAnd kind."
    assert chat.messages == [("user", "Hi there"), ("assistant", ""), ("user", "")]
    assert (chat.max_output_tokens, chat.temperature, chat.stop) == (3, None, ["x"])
    assert (chat.is_streaming, chat.include_usage, chat.model) == (True, True, "m")


def test_responses_request_is_read() -> None:
    items = [
        {"role": "developer", "content": "Kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call_output", "output": "42"},
    ]
    operation = WIRE.operation("responses")

    chat = WIRE.read_request(
        operation, {"model": "m", "instructions": "Brief.", "input": items, "max_output_tokens": 2}
    )

    assert (chat.system, chat.messages) == ("Brief.\n\nKind.", [("user", "Hi"), ("tool", "42")])
    assert WIRE.read_request(operation, {"input": "Hi"}).messages == [("user", "Hi")]


def test_chat_request_is_written_with_usage_asked_for() -> None:
    chat = ChatRequest([Message("user", "Hi")], "Brief.", "m", 5, 0.5, None, ["x"], is_streaming=True)

    name, document = WIRE.write_request(chat)

    assert (name, document) == (
        "chat",
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}],
            "max_completion_tokens": 5,
            "temperature": 0.5,
            "stop": ["x"],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )


@pytest.mark.parametrize("name", ["chat", "responses"])
def test_reader_raises_from_errors_and_cuts(name: str) -> None:
    operation = WIRE.operation(name)
    stream = written_stream(name)

    broken = WIRE.stream_reader(operation)
    broken.feed(stream[: stream.index(b"is it")])
    with pytest.raises(UpstreamCut):
        broken.completion()
    with pytest.raises(UpstreamRejected, match="busy"):
        WIRE.stream_reader(operation).feed(b'data: {"error":{"message":"busy"}}\n\n')
    with pytest.raises(UpstreamRejected, match="busy"):
        WIRE.read_reply(operation, orjson.dumps({"error": {"message": "busy"}}))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "model: the field is missing"),
        ({"model": None}, "got null"),
        ({"model": 5}, "got a number"),
        ({"model": ""}, "an empty string"),
        ({"model": "m", "stream": "yes"}, "stream: true or false is needed, got a string"),
        ({"model": "m", "stream": 1}, "stream: true or false is needed, got a number"),
    ],
)
def test_request_without_a_clear_intent_is_refused(document: dict[str, object], words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        WIRE.interpret(WIRE.operation("chat"), None, document)


def test_intent_is_read() -> None:
    chat, responses = WIRE.operation("chat"), WIRE.operation("responses")

    assert WIRE.interpret(chat, None, {"model": "m", "stream": True, "max_tokens": 5}) == ("m", True, 5)
    assert WIRE.interpret(chat, None, {"model": "m", "stream": None, "max_tokens": "5"}) == ("m", False, None)
    assert WIRE.interpret(responses, None, {"model": "m", "max_output_tokens": 5}) == ("m", False, 5)
    assert WIRE.interpret(WIRE.operation("embeddings"), None, {"model": "m", "stream": "?"}) == ("m", False, None)
    assert WIRE.interpret(WIRE.operation("model"), "m", None) == ("m", False, None)


def test_upstream_path_leaves_the_version_to_the_base_url() -> None:
    assert WIRE.upstream_path(WIRE.operation("chat"), "m", b"/v1/chat/completions") == b"/chat/completions"
    assert WIRE.upstream_path(WIRE.operation("models"), None, b"/v1/models") == b"/models"
    assert WIRE.upstream_path(WIRE.operation("model"), "org/m", b"/v1/models/org%2Fm") == b"/models/org%2Fm"
    assert WIRE.upstream_path(WIRE.operation("model"), "other m", b"/v1/models/m") == b"/models/other%20m"


def test_embeddings_are_no_conversation() -> None:
    with pytest.raises(TranslationUnsupported):
        WIRE.read_request(WIRE.operation("embeddings"), {})
