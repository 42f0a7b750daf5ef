"""Anthropic's own SDK understands what the Anthropic format writes."""

import anthropic
import httpx2
import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import MessageTokensCount, ModelInfo

from proxy.errors import Overloaded, ProxyError, Refused, UpstreamCut, UpstreamRejected
from proxy.formats.neutral import ChatRequest, Completion, Message
from proxy.formats.registry import FORMATS
from proxy.usage import Usage

WIRE = FORMATS["anthropic"]
CHAT = WIRE.operation("chat")
ANSWER = Completion("1", "claude-x", "Paris is it", "length", Usage(9, 4, 3, 1))


def client(body: bytes, status: int = 200, content_type: str = "text/event-stream") -> anthropic.Anthropic:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers={"content-type": content_type})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="k", base_url="http://proxy.test", http_client=http, max_retries=0)


def written_stream() -> bytes:
    writer = WIRE.stream_writer(CHAT, Completion("1", "claude-x", "", usage=Usage(9, None, 3, 1)))
    return writer.start() + writer.delta("Paris ") + writer.delta("is it") + writer.finish(ANSWER)


def test_whole_reply_is_the_sdks_type() -> None:
    message = AnthropicMessage.model_validate_json(WIRE.write_reply(CHAT, ANSWER), strict=True)

    assert (message.id, message.content[0].text, message.stop_reason) == ("msg_1", "Paris is it", "max_tokens")  # type: ignore[union-attr]  # a text block
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 3)
    assert WIRE.read_reply(CHAT, WIRE.write_reply(CHAT, ANSWER)).usage == ANSWER.usage


def test_sdk_reads_a_stream_in_order() -> None:
    with client(written_stream()).messages.stream(model="m", max_tokens=5, messages=[]) as stream:
        kinds = [event.type for event in stream if event.type != "text"]
        final = stream.get_final_message()

    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert (final.content[0].text, final.stop_reason, final.usage.output_tokens) == ("Paris is it", "max_tokens", 4)  # type: ignore[union-attr]  # a text block


def test_own_stream_is_read_back() -> None:
    reader = WIRE.stream_reader(CHAT)

    texts = reader.feed(written_stream())

    assert texts == ["Paris ", "is it"]
    assert reader.completion() == Completion("msg_1", "claude-x", "Paris is it", "length", Usage(9, 4, 3, 1))


def test_reader_raises_from_errors_and_cuts() -> None:
    cut = WIRE.stream_reader(CHAT)
    cut.feed(written_stream()[:-40])

    with pytest.raises(UpstreamCut):
        cut.completion()
    with pytest.raises(UpstreamRejected, match="busy"):
        WIRE.stream_reader(CHAT).feed(b'event: error\ndata: {"type":"error","error":{"message":"busy"}}\n\n')


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Overloaded("full", provider="p1"), 529, "overloaded_error"),
        (Refused("spent", code="budget_exceeded", status=429), 402, "billing_error"),
        (Refused("slow down", code="rate_limited", status=429), 429, "rate_limit_error"),
    ],
)
def test_sdk_raises_from_an_error_body(error: ProxyError, status: int, kind: str) -> None:
    body = WIRE.error_body(error, "r1")

    with pytest.raises(anthropic.APIStatusError) as raised:
        client(body, WIRE.error_status(error), "application/json").messages.create(model="m", max_tokens=5, messages=[])

    fields = raised.value.body["error"]  # type: ignore[index]  # the parsed body
    assert (raised.value.status_code, fields["type"], fields["message"]) == (status, kind, error.message)
    assert fields["details"]["error_code"] == error.code
    assert fields["details"].get("provider") == error.provider


def test_sdk_raises_from_an_error_in_a_stream() -> None:
    body = WIRE.error_event(CHAT, UpstreamCut("broken off"), "r1")

    with pytest.raises(anthropic.APIStatusError, match="broken off"):
        list(client(body).messages.create(model="m", max_tokens=5, messages=[], stream=True))


def test_sdk_reads_counts_and_models() -> None:
    listed = client(WIRE.write_models(["a", "b"], 7), content_type="application/json").models.list()

    assert [model.id for model in listed.data] == ["a", "b"]
    assert ModelInfo.model_validate_json(WIRE.write_model("a", 7)).created_at.year == 1970
    assert MessageTokensCount.model_validate_json(WIRE.write_token_count(5)).input_tokens == 5


def test_request_is_read_leniently() -> None:
    document = {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "Brief."}, {"type": "text", "text": "Kind."}],
        "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}, None],
        "stop_sequences": ["x"],
    }

    chat = WIRE.read_request(CHAT, document)

    assert (chat.system, chat.messages) == ("Brief.\n\nKind.", [("user", "Hi"), ("user", "")])
    assert (chat.max_output_tokens, chat.stop, chat.is_streaming) == (5, ["x"], False)
    assert WIRE.interpret(CHAT, None, document) == ("m", False, 5)


def test_request_is_written_within_anthropics_rules() -> None:
    chat = ChatRequest([Message("system", "S"), Message("assistant", "A")], "Brief.", "m", None, 1.5, 0.9, ["x", " "])

    _, document = WIRE.write_request(chat)

    assert document == {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "S"}, {"role": "assistant", "content": "A"}],
        "system": "Brief.",
        "temperature": 1.0,
        "stop_sequences": ["x"],
    }


def test_upstream_path_keeps_its_version() -> None:
    assert WIRE.upstream_path(CHAT, "m", b"/v1/messages") == b"/v1/messages"
    assert WIRE.upstream_path(WIRE.operation("model"), "m", b"/v1/models/m") == b"/v1/models/m"
