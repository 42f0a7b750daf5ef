"""Ollama's own client understands what the Ollama format writes."""

import httpx
import ollama
import orjson
import pytest

from proxy.errors import MalformedBody, UnknownModel, UpstreamCut, UpstreamRejected
from proxy.formats.neutral import ChatRequest, Completion, Message, ReplyFacts
from proxy.formats.ollama import OllamaFormat
from proxy.formats.registry import FORMATS
from proxy.usage import Usage

WIRE = FORMATS["ollama"]
CHAT, GENERATE = WIRE.operation("chat"), WIRE.operation("generate")
ANSWER = Completion("", "llama-x", "Paris is it", "length", Usage(9, 4), created_s=7)


def client(body: bytes, status: int = 200) -> ollama.Client:
    return ollama.Client(
        "http://proxy.test", transport=httpx.MockTransport(lambda request: httpx.Response(status, content=body))
    )


def written_stream(name: str) -> bytes:
    writer = WIRE.stream_writer(WIRE.operation(name), Completion("", "llama-x", "", created_s=7))
    return writer.start() + writer.delta("Paris ") + writer.delta("is it") + writer.finish(ANSWER)


def test_client_reads_whole_replies() -> None:
    facts = ReplyFacts(latency_ms=1.5)

    chat = client(WIRE.write_reply(CHAT, ANSWER, facts)).chat("m", [])
    generated = client(WIRE.write_reply(GENERATE, ANSWER)).generate("m", "x")

    assert (chat.message.content, chat.done_reason, chat.eval_count) == ("Paris is it", "length", 4)
    assert (chat.total_duration, chat.created_at) == (1_500_000, "1970-01-01T00:00:07Z")
    assert (generated.response, generated.prompt_eval_count) == ("Paris is it", 9)


@pytest.mark.parametrize("name", ["chat", "generate"])
def test_client_reads_streams(name: str) -> None:
    sdk = client(written_stream(name))

    if name == "chat":
        pieces = [part.message.content or "" for part in sdk.chat("m", [], stream=True)]
    else:
        pieces = [part.response or "" for part in sdk.generate("m", "x", stream=True)]

    assert pieces == ["Paris ", "is it", ""]


@pytest.mark.parametrize("name", ["chat", "generate"])
def test_own_replies_and_streams_are_read_back(name: str) -> None:
    operation = WIRE.operation(name)
    reader = WIRE.stream_reader(operation)

    texts = reader.feed(written_stream(name)[:-1])
    streamed = reader.completion()
    whole = WIRE.read_reply(operation, WIRE.write_reply(operation, ANSWER))

    assert texts == ["Paris ", "is it"]
    for completion in (streamed, whole):
        assert completion == Completion("", "llama-x", "Paris is it", "length", Usage(9, 4))


def test_reader_raises_from_errors_and_cuts() -> None:
    cut = WIRE.stream_reader(CHAT)
    cut.feed(written_stream("chat").splitlines(True)[0])

    with pytest.raises(UpstreamCut):
        cut.completion()
    with pytest.raises(UpstreamRejected, match="busy"):
        WIRE.stream_reader(CHAT).feed(b'{"error":"busy"}\n')


def test_client_raises_from_errors_of_body_and_stream() -> None:
    error = UnknownModel("no such model", provider="p1")

    with pytest.raises(ollama.ResponseError, match="no such model"):
        client(WIRE.error_body(error, "r1"), 404).chat("m", [])
    with pytest.raises(ollama.ResponseError, match="no such model"):
        list(client(WIRE.error_event(CHAT, error, "r1")).chat("m", [], stream=True))

    assert orjson.loads(WIRE.error_body(error, "r1")) == {
        "error": "no such model",
        "code": "model_not_found",
        "request_id": "r1",
        "provider": "p1",
    }


def test_client_reads_models_and_embeddings() -> None:
    assert isinstance(WIRE, OllamaFormat)
    vectors = [[1.0, 0.5]]
    embed = WIRE.write_embeddings(WIRE.operation("embed"), vectors, model="e", usage=Usage(3), document={})
    older = WIRE.write_embeddings(WIRE.operation("embeddings"), vectors, model="e", usage=Usage(3), document={})

    assert [model.model for model in client(WIRE.write_models(["a", "b"], 7)).list().models] == ["a", "b"]
    assert client(WIRE.write_model("a", 7)).show("a").capabilities == ["completion"]
    assert client(WIRE.write_running()).ps().models == []
    assert orjson.loads(WIRE.write_version())["version"].count(".") == 2
    assert client(embed).embed("e", "x").embeddings == vectors
    assert client(older).embeddings("e", "x").embedding == vectors[0]


def test_inputs_to_embed_are_read() -> None:
    assert WIRE.read_embedding_inputs(WIRE.operation("embed"), {"input": ["a", "b"]}) == ["a", "b"]
    assert WIRE.read_embedding_inputs(WIRE.operation("embeddings"), {"prompt": "a"}) == ["a"]


def test_stream_is_the_default() -> None:
    assert WIRE.interpret(CHAT, None, {"model": "m", "options": {"num_predict": -1}}) == ("m", True, None)
    assert WIRE.interpret(CHAT, None, {"model": "m", "stream": False, "options": {"num_predict": 5}}) == ("m", False, 5)
    assert WIRE.interpret(WIRE.operation("embed"), None, {"model": "m"}) == ("m", False, None)
    assert WIRE.interpret(WIRE.operation("model"), None, {"name": "m"}) == ("m", False, None)
    with pytest.raises(MalformedBody, match="model"):
        WIRE.interpret(CHAT, None, {})


def test_requests_are_read() -> None:
    messages = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}]

    chat = WIRE.read_request(CHAT, {"model": "m", "messages": messages, "options": {"temperature": 1, "stop": "x"}})
    generated = WIRE.read_request(GENERATE, {"model": "m", "prompt": "Hi", "system": "Brief.", "stream": False})

    assert (chat.system, chat.messages, chat.temperature, chat.stop) == ("Brief.", [("user", "Hi")], 1.0, ["x"])
    assert (generated.system, generated.messages, generated.is_streaming) == ("Brief.", [("user", "Hi")], False)


def test_written_request_always_says_stream() -> None:
    _, document = WIRE.write_request(ChatRequest([Message("user", "Hi")], "Brief.", "m", 5))

    assert document == {
        "model": "m",
        "messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}],
        "stream": False,
        "options": {"num_predict": 5},
    }
