"""The commands people are told to type work as they stand, on a default install without a key."""

import re
from typing import Any

import orjson
import pytest

from proxy.testing import ProxyProcess
from tests.e2e.rig import MESSAGES, ROOT, Ended, ask, run
from tests.tools import require_tool

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORKER = "https://your-worker.workers.dev"
"""The host in the troubleshooting guide."""

COMMAND = re.compile(r"^ *(?:\$ )?(curl (?:.*\\\n)*.*)", re.MULTILINE)
FENCED = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)

CONTENTS = [{"role": "user", "parts": [{"text": "Hello"}]}]
GEMINI = b'{"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}'
CHAT = {"model": "any", "messages": MESSAGES}


async def shell(command: str, proxy: ProxyProcess) -> Ended:
    """Run a line of the guide in a shell, with this proxy for the worker; curl fails on an error status."""
    require_tool("curl")
    for host in (WORKER, "http://127.0.0.1:8080", "http://localhost:8080"):
        command = command.replace(host, proxy.url)
    return await run("sh", "-c", command.replace("curl ", "curl --fail-with-body --silent --show-error "))


async def test_guides_health_check_tells_status_version_uptime_and_memory(default_proxy: ProxyProcess) -> None:
    ended = await shell(f"curl {WORKER}/health", default_proxy)

    assert ended.code == 0, ended.errors
    health = orjson.loads(ended.output)
    assert health["status"] == "healthy"
    assert re.fullmatch(r"\d+\.\d+\.\d+", health["version"])
    assert re.fullmatch(r"(\d+[dhms] ?)+", health["uptime"])
    assert re.fullmatch(r"[\d.]+MB", health["memoryUsage"])


async def test_guides_first_request_is_answered_in_the_native_format(default_proxy: ProxyProcess) -> None:
    ended = await shell(
        f"""curl -X POST {WORKER}/ \\
  -H "Content-Type: application/json" \\
  -d '{{"prompt": "Hello", "maxTokens": 10}}'""",
        default_proxy,
    )

    assert ended.code == 0, ended.errors
    reply = orjson.loads(ended.output)
    assert reply["response"] == "Echo: Hello"
    assert reply["usage"] == {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
    assert (reply["provider"], reply["cached"]) == ("echo", False)
    assert reply["id"]
    assert reply["traceId"]


async def test_guides_traced_request_carries_its_trace_id_back(default_proxy: ProxyProcess) -> None:
    ended = await shell(
        f"""curl -X POST {WORKER}/ \\
  -H "Content-Type: application/json" \\
  -H "X-Trace-Id: test-123" \\
  -d '{{"prompt": "Test request"}}'""",
        default_proxy,
    )

    assert orjson.loads(ended.output)["traceId"] == "test-123"


async def test_guides_provider_status_names_every_provider(default_proxy: ProxyProcess) -> None:
    ended = await shell(f"curl {WORKER}/providers/status", default_proxy)

    assert ended.code == 0, ended.errors
    assert [provider["name"] for provider in orjson.loads(ended.output)["providers"]] == ["echo"]


async def test_guides_configuration_backup_is_the_whole_document(default_proxy: ProxyProcess) -> None:
    ended = await shell(f"curl {WORKER}/config", default_proxy)

    assert ended.code == 0, ended.errors
    document = orjson.loads(ended.output)
    marker = document.pop("$export")
    assert marker["sections"] == list(document)
    assert document["providers"]["echo"]["type"] == "echo"


async def test_guides_watched_line_shows_health_through_jq(default_proxy: ProxyProcess) -> None:
    require_tool("jq")
    watched = f"curl -s {WORKER}/health | jq ."  # what `watch -n 5` runs

    ended = await shell(watched, default_proxy)

    assert (ended.code, orjson.loads(ended.output)["status"]) == (0, "healthy")


async def test_every_command_of_the_greeting_works(default_proxy: ProxyProcess) -> None:
    commands = COMMAND.findall(default_proxy.output)

    assert len(commands) == 3
    for command in commands:
        ended = await shell(command, default_proxy)
        assert ended.code == 0, f"{command}\n{ended.output}{ended.errors}"
        assert "Echo: Hello" in ended.output or "healthy" in ended.output or '"content":"Echo:"' in ended.output


async def test_greeting_tells_address_providers_and_plugins(default_proxy: ProxyProcess) -> None:
    greeting = default_proxy.output

    assert f"listens on {default_proxy.url}\n" in greeting
    assert "providers  echo (echo)" in greeting
    assert "plugins    debug (off), keys (off), rate_limit, cache, balancer, metrics" in greeting


async def test_every_curl_of_the_readme_to_a_local_proxy_works(default_proxy: ProxyProcess) -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README yet")
    blocks = "\n".join(FENCED.findall(readme.read_text("utf-8")))
    commands = [command for command in COMMAND.findall(blocks) if ":8080" in command]

    assert commands
    for command in commands:
        ended = await shell(command, default_proxy)
        assert ended.code == 0, f"{command}\n{ended.output}{ended.errors}"


async def test_metrics_are_prometheus_text(default_proxy: ProxyProcess) -> None:
    await ask(default_proxy, "POST", "/v1/chat/completions", orjson.dumps(CHAT))

    response = await ask(default_proxy, "GET", "/metrics")

    assert (response.header("content-type") or "").startswith("text/plain; version=0.0.4")
    assert re.search(
        r'^proxy_http_requests_total\{method="POST",route="openai.chat",status="200"\} [1-9]',
        response.text,
        re.MULTILINE,
    )


@pytest.mark.parametrize(
    ("path", "document", "place"),
    [
        ("/", {"prompt": "Hello"}, ["response"]),
        ("/v1/chat/completions", CHAT, ["choices", 0, "message", "content"]),
        ("/v1/completions", {"model": "any", "prompt": "Hello"}, ["choices", 0, "text"]),
        ("/v1/responses", {"model": "any", "input": "Hello"}, ["output", 0, "content", 0, "text"]),
        ("/v1/messages", {**CHAT, "max_tokens": 50}, ["content", 0, "text"]),
        *(
            (
                f"/{version}/models/any:generateContent",
                {"contents": CONTENTS},
                ["candidates", 0, "content", "parts", 0, "text"],
            )
            for version in ("v1", "v1beta", "v1alpha")
        ),
        ("/api/chat", {**CHAT, "stream": False}, ["message", "content"]),
        ("/api/generate", {"model": "any", "prompt": "Hello", "stream": False}, ["response"]),
    ],
)
async def test_echo_answers_every_conversation(
    default_proxy: ProxyProcess, path: str, document: dict[str, Any], place: list[str | int]
) -> None:
    response = await ask(default_proxy, "POST", path, orjson.dumps(document))

    found: Any = response.json()
    for key in place:
        found = found[key]
    assert (response.status, found) == (200, "Echo: Hello")


@pytest.mark.parametrize(
    ("path", "document", "end"),
    [
        ("/", {"prompt": "Hello", "stream": True}, b"event: done\n"),
        ("/v1/chat/completions", {**CHAT, "stream": True}, b"data: [DONE]\n\n"),
        ("/v1/completions", {"model": "any", "prompt": "Hello", "stream": True}, b"data: [DONE]\n\n"),
        ("/v1/responses", {"model": "any", "input": "Hello", "stream": True}, b"event: response.completed\n"),
        ("/v1/messages", {**CHAT, "max_tokens": 50, "stream": True}, b"event: message_stop\n"),
        *(
            (f"/{version}/models/any:streamGenerateContent?alt=sse", {"contents": CONTENTS}, b'"finishReason":"STOP"')
            for version in ("v1", "v1beta", "v1alpha")
        ),
        ("/api/chat", CHAT, b'"done":true'),
        ("/api/generate", {"model": "any", "prompt": "Hello"}, b'"done":true'),
    ],
)
async def test_echo_streams_every_conversation_to_its_end(
    default_proxy: ProxyProcess, path: str, document: dict[str, Any], end: bytes
) -> None:
    response = await ask(default_proxy, "POST", path, orjson.dumps(document), {"X-Cache": "bypass"})

    assert response.status == 200
    assert response.header("transfer-encoding") == "chunked"
    assert b"Echo:" in response.parts[0][1] + response.parts[1][1]
    assert end in response.parts[-1][1]


async def test_stream_that_is_given_again_is_framed_like_one(default_proxy: ProxyProcess) -> None:
    body = orjson.dumps({**CHAT, "stream": True, "seed": 7})

    first, again = [await ask(default_proxy, "POST", "/v1/chat/completions", body) for _ in range(2)]

    assert (again.header("x-cache"), again.header("transfer-encoding")) == ("hit", "chunked")
    assert (again.body, again.header("content-type")) == (first.body, first.header("content-type"))
    assert again.header("x-accel-buffering") == "no"


@pytest.mark.parametrize(
    ("method", "path", "headers", "place"),
    [
        ("GET", "/v1/models", {}, ["data", 0, "id"]),
        ("GET", "/v1/models", {"anthropic-version": "2023-06-01"}, ["data", 0, "display_name"]),
        ("GET", "/v1/models?key=any", {}, ["models", 0, "displayName"]),
        ("GET", "/v1/models", {"x-goog-api-key": "any"}, ["models", 0, "displayName"]),
        ("GET", "/v1beta/models", {}, ["models", 0, "displayName"]),
        ("GET", "/api/tags", {}, ["models", 0, "name"]),
        ("GET", "/v1/models/echo", {}, ["id"]),
    ],
)
async def test_models_are_listed_in_the_shape_of_who_asks(
    default_proxy: ProxyProcess, method: str, path: str, headers: dict[str, str], place: list[str | int]
) -> None:
    response = await ask(default_proxy, method, path, headers=headers)

    found: Any = response.json()
    for key in place:
        found = found[key]
    assert (response.status, found) == (200, "echo")


async def test_echo_embeds_a_text_always_alike(default_proxy: ProxyProcess) -> None:
    body = b'{"model": "any", "input": ["Hello", "Hello", "Goodbye"]}'

    document: Any = (await ask(default_proxy, "POST", "/v1/embeddings", body)).json()

    first, second, third = [one["embedding"] for one in document["data"]]
    assert first == second != third
    assert len(first) == 64


async def test_echo_counts_anthropics_tokens(default_proxy: ProxyProcess) -> None:
    response = await ask(default_proxy, "POST", "/v1/messages/count_tokens", orjson.dumps(CHAT))

    assert response.json() == {"input_tokens": 1}


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/config", "/providers/status", "/metrics"])
async def test_admin_paths_answer_get_and_head_and_nothing_else(default_proxy: ProxyProcess, path: str) -> None:
    got, head = await ask(default_proxy, "GET", path), await ask(default_proxy, "HEAD", path)
    deleted = await ask(default_proxy, "DELETE", path)

    assert (got.status, head.status, head.body) == (200, 200, b"")
    assert (deleted.status, deleted.header("content-type")) == (405, "application/problem+json")
    assert deleted.header("allow")


async def test_unknown_paths_are_404_in_json_and_wrong_methods_405(default_proxy: ProxyProcess) -> None:
    unknown = await ask(default_proxy, "GET", "/nowhere")
    wrong = await ask(default_proxy, "GET", "/v1/chat/completions")

    assert (unknown.status, b'"code":"not_found"' in unknown.body) == (404, True)
    assert (wrong.status, wrong.header("allow")) == (405, "POST")
    assert unknown.header("x-request-id")
