"""Google's own SDK understands what the Gemini format writes."""

import httpx
import orjson
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from proxy.errors import MalformedBody, Refused, UpstreamCut, UpstreamProtocol, UpstreamRejected
from proxy.formats.neutral import ChatRequest, Completion, Message
from proxy.formats.registry import FORMATS
from proxy.usage import Usage

WIRE = FORMATS["gemini"]
GENERATE, STREAM = WIRE.operation("generate"), WIRE.operation("stream_generate")
GENERATE_PATH = "/v1/models/{model}:generateContent"
ANSWER = Completion("1", "gemini-x", "Paris is it", "length", Usage(9, 4, 3, None, 2))


def client(body: bytes, status: int = 200, content_type: str = "application/json") -> genai.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"content-type": content_type})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    return genai.Client(api_key="k", http_options=types.HttpOptions(base_url="http://proxy.test", httpx_client=http))


def written_stream() -> bytes:
    writer = WIRE.stream_writer(STREAM, Completion("1", "gemini-x", ""))
    return writer.start() + writer.delta("Paris ") + writer.delta("is it") + writer.finish(ANSWER)


def test_sdk_reads_a_whole_reply() -> None:
    reply = client(WIRE.write_reply(GENERATE, ANSWER)).models.generate_content(model="m", contents="x")

    assert (reply.text, reply.model_version, reply.response_id) == ("Paris is it", "gemini-x", "1")
    assert reply.candidates is not None
    assert reply.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert reply.usage_metadata is not None
    assert reply.usage_metadata.candidates_token_count == 2
    assert reply.usage_metadata.thoughts_token_count == 2
    assert WIRE.read_reply(GENERATE, WIRE.write_reply(GENERATE, ANSWER)) == ANSWER


def test_sdk_reads_a_stream() -> None:
    sdk = client(written_stream(), content_type="text/event-stream")

    chunks = list(sdk.models.generate_content_stream(model="m", contents="x"))

    assert "".join(chunk.text or "" for chunk in chunks) == "Paris is it"
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata.total_token_count == 13


def test_own_stream_is_read_back() -> None:
    reader = WIRE.stream_reader(STREAM)

    texts = reader.feed(written_stream())

    assert texts == ["Paris ", "is it"]
    assert reader.completion() == ANSWER


def test_reader_raises_from_errors_and_cuts() -> None:
    cut = WIRE.stream_reader(STREAM)
    cut.feed(written_stream().split(b"\n\n")[0] + b"\n\n")

    with pytest.raises(UpstreamCut):
        cut.completion()
    with pytest.raises(UpstreamRejected, match="busy"):
        WIRE.stream_reader(STREAM).feed(b'data: {"error":{"message":"busy"}}\n\n')
    with pytest.raises(UpstreamProtocol, match="no candidates"):
        WIRE.read_reply(GENERATE, b"{}")


def test_blocked_prompt_and_calls_have_their_finish_reason() -> None:
    call = {"candidates": [{"content": {"parts": [{"functionCall": {}}]}, "finishReason": "STOP"}]}

    assert WIRE.read_reply(GENERATE, b'{"promptFeedback":{"blockReason":"SAFETY"}}').finish_reason == "content_filter"
    assert WIRE.read_reply(GENERATE, orjson.dumps(call)).finish_reason == "tool_calls"


def test_sdk_raises_from_errors_of_body_and_stream() -> None:
    error = Refused("slow down", code="rate_limited", status=429, retry_after_s=1.5)
    error.provider = "p1"

    with pytest.raises(genai_errors.ClientError) as raised:
        client(WIRE.error_body(error, "r1"), 429).models.generate_content(model="m", contents="x")
    sdk = client(WIRE.error_event(STREAM, error, "r1"), content_type="text/event-stream")
    with pytest.raises(genai_errors.ClientError):
        list(sdk.models.generate_content_stream(model="m", contents="x"))

    assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")
    info, retry = orjson.loads(WIRE.error_body(error, "r1"))["error"]["details"]
    assert (info["reason"], info["metadata"]) == ("rate_limited", {"requestId": "r1", "provider": "p1"})
    assert retry["retryDelay"] == "1.500s"


def test_sdk_reads_counts_embeddings_and_models() -> None:
    vectors = [[1.0, 0.5]]
    batch = WIRE.write_embeddings(WIRE.operation("embed_batch"), vectors, model="e", usage=Usage(), document={})
    single = WIRE.write_embeddings(WIRE.operation("embed"), vectors, model="e", usage=Usage(), document={})

    counted = client(WIRE.write_token_count(5)).models.count_tokens(model="m", contents="x")
    embedded = client(batch).models.embed_content(model="m", contents=["x"])
    listed = list(client(WIRE.write_models(["a", "tunedModels/b"], 7)).models.list())

    assert counted.total_tokens == 5
    assert embedded.embeddings is not None
    assert embedded.embeddings[0].values == vectors[0]
    assert orjson.loads(single) == {"embedding": {"values": vectors[0]}}
    assert [model.name for model in listed] == ["models/a", "tunedModels/b"]
    assert client(WIRE.write_model("a", 7)).models.get(model="a").name == "models/a"


def test_request_is_read_with_names_of_both_cases() -> None:
    document = {
        "contents": [{"role": "user", "parts": [{"text": "Hi "}, {"text": "there"}]}, {"role": "model", "parts": None}],
        "system_instruction": {"parts": [{"text": "Brief."}]},
        "generation_config": {"max_output_tokens": 5, "topP": 0.5, "stopSequences": ["x"]},
    }

    chat = WIRE.read_request(STREAM, document)

    assert (chat.system, chat.messages) == ("Brief.", [("user", "Hi there"), ("assistant", "")])
    assert (chat.max_output_tokens, chat.top_p, chat.stop, chat.is_streaming) == (5, 0.5, ["x"], True)
    counted = {"generateContentRequest": {"contents": [{"parts": [{"text": "Hi"}]}]}}
    assert WIRE.read_request(WIRE.operation("count_tokens"), counted).messages == [("user", "Hi")]


def test_written_request_alternates_roles() -> None:
    messages = [Message("user", "a"), Message("tool", "b"), Message("assistant", "c")]

    name, document = WIRE.write_request(ChatRequest(messages, "Brief.", "m", 5, is_streaming=True))

    assert name == "stream_generate"
    assert document == {
        "contents": [
            {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
            {"role": "model", "parts": [{"text": "c"}]},
        ],
        "systemInstruction": {"parts": [{"text": "Brief."}]},
        "generationConfig": {"maxOutputTokens": 5},
    }


def test_intent_comes_from_the_path() -> None:
    tuned = next(item for item in WIRE.operations if item.path == "/v1/tunedModels/{model}:streamGenerateContent")

    assert WIRE.interpret(GENERATE, "m", {"generationConfig": {"maxOutputTokens": 5}}) == ("m", False, 5)
    assert WIRE.interpret(tuned, "m", {"stream": "?"}) == ("tunedModels/m", True, None)
    assert WIRE.interpret(WIRE.operation("models"), None, None) == (None, False, None)
    with pytest.raises(MalformedBody, match="model"):
        WIRE.interpret(GENERATE, "", {})


@pytest.mark.parametrize(
    ("pattern", "model", "raw", "expected"),
    [
        (GENERATE_PATH, "m", b"/v1/models/m:generateContent", b"/v1/models/m:generateContent"),
        (GENERATE_PATH, "m", b"/v1/models/%6D%3AgenerateContent", b"/v1/models/%6D:generateContent"),
        (GENERATE_PATH, "x y", b"/v1/models/m:generateContent", b"/v1/models/x%20y:generateContent"),
        ("/v1beta/models/{model}:streamGenerateContent", "m", None, b"/v1beta/models/m:streamGenerateContent?alt=sse"),
        ("/v1alpha/models/{model}:countTokens", "tunedModels/t", None, b"/v1alpha/tunedModels/t:countTokens"),
        ("/v1/tunedModels/{model}:generateContent", "tunedModels/t", b"/v1/tunedModels/%74:generateContent",
         b"/v1/tunedModels/%74:generateContent"),
        ("/v1/models/{model}", "m", b"/v1/models/%6d", b"/v1/models/%6d"),
        ("/v1/models", None, b"/v1/models", b"/v1/models"),
    ],
)  # fmt: skip
def test_upstream_path_keeps_what_the_client_wrote(
    pattern: str, model: str | None, raw: bytes | None, expected: bytes
) -> None:
    operation = next(item for item in WIRE.operations if item.path == pattern)

    assert WIRE.upstream_path(operation, model, raw) == expected
