"""Virtual keys through a real process: what each vendor's SDK makes of them, and that no provider ever sees one."""

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import anthropic
import ollama
import openai
import orjson
import pytest
import pytest_asyncio
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from proxy.testing import CutOff, FakeProvider, Faults, ProxyProcess
from proxy.usage import Usage
from tests.e2e.rig import CALLS, KEYS, STREAMS, TEXT, ask, clean_environment, relay_config, until, until_idle
from tests.e2e.test_bodies import FORM_TYPE, form

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # google-genai makes a subclass of aiohttp's session, which aiohttp would rather it did not
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
PRICES = {"gpt-4o": {"input": 1000, "output": 1000}}
"""A tenth of a cent a token."""


@dataclass(frozen=True)
class Keyed:
    """A proxy that wants keys."""

    proxy: ProxyProcess

    async def create(self, name: str, **settings: Any) -> Any:
        """Make a key, in the place of one with the same name."""
        for key in await self.keys():
            if key["name"] == name:
                await ask(self.proxy, "DELETE", f"/keys/{key['id']}")
        response = await ask(self.proxy, "POST", "/keys", orjson.dumps({"name": name, **settings}))
        assert response.status == 201, response.text
        return response.json()

    async def keys(self) -> Any:
        return (await self.json("GET", "/keys"))["keys"]

    async def json(self, method: str, path: str, document: Any = None) -> Any:
        body = None if document is None else orjson.dumps(document)
        return (await ask(self.proxy, method, path, body)).json()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keyed(fakes: tuple[FakeProvider, FakeProvider]) -> AsyncIterator[Keyed]:
    config = relay_config(*fakes)
    config["providers"]["openai"]["prices"] = PRICES
    config["providers"]["openai"]["models"] = ["gpt-4o", "gpt-4o-mini", "gpt-*"]
    config["keys"] = {"enabled": True}
    async with ProxyProcess(config, environment=clean_environment()) as process:
        yield Keyed(process)


# -- nobody without one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", call.path) for call in (*CALLS.values(), *STREAMS.values())),
        ("POST", "/"),
        ("GET", "/v1/models"),
        ("HEAD", "/v1/models"),
        ("GET", "/v1beta/models"),
        ("GET", "/api/tags"),
        ("GET", "/api/version"),
        ("POST", "/v1/audio/transcriptions"),
        ("GET", "/v1/files"),
        ("GET", "/proxy/rerank/x"),
        ("POST", "/proxy/open-openai/chat/completions"),
        ("DELETE", "/proxy/openai/files/1"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sk-sw-0123456789-wrong"}])
async def test_nothing_passes_without_a_right_key(
    keyed: Keyed, upstream: FakeProvider, method: str, path: str, headers: dict[str, str]
) -> None:
    body = orjson.dumps({"model": "gpt-4o", "messages": MESSAGES}) if method == "POST" else None

    response = await ask(keyed.proxy, method, path, body, headers)

    assert response.status == 401
    assert response.header("www-authenticate") == "Bearer"
    assert upstream.requests_seen == 0


async def test_each_sdk_raises_its_error_for_a_wrong_key(keyed: Keyed) -> None:
    url = keyed.proxy.url
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as gpt:
        with pytest.raises(openai.AuthenticationError, match="key not known"):
            await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        with pytest.raises(openai.AuthenticationError):
            await gpt.models.list()
    async with anthropic.AsyncAnthropic(base_url=url, api_key="wrong", max_retries=0) as claude:
        with pytest.raises(anthropic.AuthenticationError, match="key not known"):
            await claude.messages.create(model="claude-x", max_tokens=9, messages=MESSAGES)
    async with gemini_at(url, "wrong").aio as gemini:
        with pytest.raises(genai_errors.ClientError, match="key not known") as raised:
            await gemini.models.generate_content(model="gemini-x", contents="Hello")
        assert raised.value.code == 401
    llama = ollama.AsyncClient(host=url)
    with pytest.raises(ollama.ResponseError, match="key missing") as missing:
        await llama.chat(model="llama3", messages=MESSAGES)
    assert missing.value.status_code == 401
    await llama._client.aclose()


def gemini_at(url: str, key: str) -> genai.Client:
    return genai.Client(api_key=key, http_options=genai_types.HttpOptions(base_url=url, api_version="v1beta"))


async def test_each_sdk_works_with_a_virtual_key(keyed: Keyed, upstream: FakeProvider) -> None:
    url, key = keyed.proxy.url, (await keyed.create("sdks"))["key"]
    upstream.reply(TEXT)

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as gpt:
        chat = await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    azures = await ask(keyed.proxy, "POST", CALLS["openai"].path, CALLS["openai"].body(), {"api-key": key})
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as claude:
        message = await claude.messages.create(model="claude-x", max_tokens=9, messages=MESSAGES)
    async with gemini_at(url, key).aio as gemini:
        content = await gemini.models.generate_content(model="gemini-x", contents="Hello")
    llama = ollama.AsyncClient(host=url, headers={"Authorization": f"Bearer {key}"})
    said = await llama.chat(model="llama3", messages=MESSAGES)
    await llama._client.aclose()

    assert (chat.choices[0].message.content, azures.status) == (TEXT, 200)
    assert (message.content[0].text, content.text, said.message.content) == (TEXT, TEXT, TEXT)  # type: ignore[union-attr]  # a text block
    assert not [seen for seen in upstream.requests if key in repr(seen)]


# -- no provider sees one --------------------------------------------------------------------------------------------


def traces_of(secret: str) -> set[str]:
    """How a key could stand in a request: plain, escaped, in Base64 at every offset, its last 12 characters."""
    found = {secret, quote(secret, safe=""), secret[-12:], "".join(f"%{ord(each):02x}" for each in secret)}
    for offset in range(3):
        found.add(base64.b64encode(b"x" * offset + secret.encode()).decode()[4:-4])
    return found


SHOWN = {
    "bearer": {"Authorization": "Bearer {}"},
    "x-api-key": {"X-Api-Key": "{}"},
    "x-goog-api-key": {"x-goog-api-key": "{}"},
    "api-key": {"api-key": "{}"},
    "query": {},
    "everywhere": {
        "Authorization": "Bearer {}",
        "x-api-key": "{}",
        "x-goog-api-key": "{}",
        "api-key": "{}",
        "Cookie": "session={}",
        "X_Api_Key": "{}",
        "X-My-Own-Key": "{}",
        "Proxy-Authorization": "Bearer {}",
        "X-Trace": "a={}; b",
        "User-Agent": "tool {}",
        "Referer": "https://example.test/?key={}",
        "Connection": "keep-alive, x-api-key, x-my-own-key",
    },
}
QUERIES = {
    "query": "key={}",
    "everywhere": "key={}&a=1&api_key={}&token={}&x=%26{}&{}=1",
}


def requests_to_every_kind_of_path(is_open: bool) -> list[tuple[str, str, bytes | None, Mapping[str, str]]]:
    """Method, path, body and headers; `is_open`: at providers without a key of their own."""
    json = {"Content-Type": "application/json"}
    prefix = "open-" if is_open else ""
    found: list[tuple[str, str, bytes | None, Mapping[str, str]]] = []
    for call in (*CALLS.values(), *STREAMS.values()):
        headers = {name: value for name, value in call.headers.items() if name != "x-api-key"}
        model = call.document.get("model")
        path = call.path.replace("/gemini-x", f"/{prefix}gemini-x")
        body = call.body(model=f"{prefix}{model}") if model and not model.startswith("llama") else call.body()
        found.append(("POST", path, body, {**headers, **json}))
    chat = orjson.dumps({"model": f"{prefix}gpt-4o", "messages": MESSAGES})
    provider = f"{prefix}openai"
    return [
        *found,
        ("POST", "/", orjson.dumps({"prompt": "x", "model": f"{prefix}gpt-4o"}), json),
        ("POST", "/v1/audio/transcriptions", form(f"{prefix}gpt-4o", b"x" * 200_000, is_model_first=True), FORM_TYPE),
        ("POST", "/v1/images/generations", chat, json),
        ("GET", "/v1/files", None, {}),
        ("GET", f"/proxy/{provider}/files/a", None, {}),
        ("POST", f"/proxy/{provider}/chat/completions", chat, json),
        ("POST", "/proxy/rerank/x", b"{}", json),
        ("GET", "/v1beta/models", None, {}),
    ]


@pytest.mark.parametrize("shown", list(SHOWN))
@pytest.mark.parametrize("is_open", [False, True])
async def test_virtual_key_reaches_no_provider_on_any_path(
    keyed: Keyed, upstream: FakeProvider, shown: str, is_open: bool
) -> None:
    key = (await keyed.create("canary"))["key"]
    headers = {name: value.format(key) for name, value in SHOWN[shown].items()}
    query = QUERIES.get(shown, "").replace("{}", key)
    statuses = []

    for method, path, body, more in requests_to_every_kind_of_path(is_open):
        target = f"{path}{'&' if '?' in path else '?'}{query}" if query else path
        response = await ask(keyed.proxy, method, target, body, {**more, **headers})
        statuses.append((path, response.status))

    assert not [status for status in statuses if status[1] in (401, 503)], statuses
    assert upstream.requests_seen >= 15
    for seen in upstream.requests:
        text = f"{seen.path}?{seen.query} {seen.headers} {seen.body.decode('latin-1')}"
        assert not [trace for trace in traces_of(key) if trace in text], text[:2000]
        if not is_open and seen.path.startswith("/v1/chat"):
            assert seen.header("authorization") == f"Bearer {KEYS['openai']}"


async def test_path_that_holds_the_key_is_refused(keyed: Keyed, upstream: FakeProvider) -> None:
    key = (await keyed.create("path"))["key"]

    for spelling in (key, f"%73{key[1:]}"):
        response = await ask(
            keyed.proxy, "GET", f"/proxy/rerank/{spelling}", headers={"Authorization": f"Bearer {key}"}
        )
        assert response.status == 400

    assert upstream.requests_seen == 0


async def test_key_stands_in_no_output(keyed: Keyed, upstream: FakeProvider) -> None:
    made = await keyed.create("outputs")
    key, headers = made["key"], {"Authorization": f"Bearer {made['key']}"}
    call = CALLS["openai"]
    upstream.reply_status(400, {"error": {"message": "no"}})

    told = [(await ask(keyed.proxy, "POST", call.path, call.body(), headers)).text]
    paths = ("/keys", f"/keys/{made['id']}", "/config", "/metrics", "/inflight", "/plugins", "/config/issues")
    told += [(await ask(keyed.proxy, "GET", path)).text for path in paths]
    told.append(keyed.proxy.output)
    told += [path.read_text("latin-1") for path in keyed.proxy.state_path.rglob("*") if path.is_file()]

    assert not [text for text in told if any(trace in text for trace in traces_of(key))]
    assert "outputs" in "".join(told)


# -- what it may do --------------------------------------------------------------------------------------------------


async def test_sdks_see_what_a_key_may_not_do(keyed: Keyed, upstream: FakeProvider) -> None:
    key = (await keyed.create("narrow", models=["gpt-4o-mini", "claude-y"]))["key"]
    url = keyed.proxy.url

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as gpt:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        with pytest.raises(openai.PermissionDeniedError):
            await gpt.models.retrieve("gpt-4o")
        listed = [model.id async for model in gpt.models.list()]
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as claude:
        with pytest.raises(anthropic.PermissionDeniedError, match="may use gpt-4o-mini, claude-y"):
            await claude.messages.create(model="claude-x", max_tokens=9, messages=MESSAGES)

    assert refused.value.code == "model_not_allowed"
    assert listed == ["gpt-4o-mini"]
    assert upstream.requests_seen == 0


async def test_budget_ends_what_sdks_may_ask_and_they_do_not_try_again(keyed: Keyed, upstream: FakeProvider) -> None:
    made = await keyed.create("poor", budget={"perDay": 0.05})
    upstream.reply(TEXT, usage=Usage(input_tokens=10, output_tokens=30))

    async with openai.AsyncOpenAI(base_url=f"{keyed.proxy.url}/v1", api_key=made["key"], max_retries=2) as gpt:
        await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=5)
        with pytest.raises(openai.RateLimitError) as refused:
            await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=5)

    spend = (await keyed.json("GET", f"/keys/{made['id']}"))["spend"]
    assert (spend["today"], spend["held"]) == (0.04, 0.0)
    assert refused.value.code == "budget_exceeded"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 86_400
    assert upstream.requests_seen == 1


async def test_stream_that_breaks_off_is_paid_for(keyed: Keyed, upstream: FakeProvider) -> None:
    made = await keyed.create("cut", budget={"perDay": 5})
    upstream.stream(["word "] * 20, faults=Faults(cut_after_events=12))
    call = STREAMS["openai"]

    with pytest.raises(CutOff):
        await ask(keyed.proxy, "POST", call.path, call.body(), {"Authorization": f"Bearer {made['key']}"})
    await until_idle(keyed.proxy)

    spend = (await keyed.json("GET", f"/keys/{made['id']}"))["spend"]
    assert spend["held"] == 0.0
    assert 0.01 < spend["today"] < 0.2


async def test_kill_loses_no_key_and_no_spending_that_was_written(fakes: tuple[FakeProvider, FakeProvider]) -> None:
    config = relay_config(*fakes)
    config["providers"]["openai"]["prices"] = PRICES
    config["keys"] = {"enabled": True, "saveEvery": "50ms"}
    fakes[0].reply(TEXT, usage=Usage(input_tokens=10, output_tokens=30))
    call = CALLS["openai"]
    async with ProxyProcess(config, environment=clean_environment()) as process:
        keyed = Keyed(process)
        made = await keyed.create("a", budget={"perMonth": 5})
        headers = {"Authorization": f"Bearer {made['key']}"}
        await ask(process, "POST", call.path, call.body(model="gpt-4o"), headers)
        file = process.state_path / "keys.json"
        await until(lambda: b'"totalNanos": 40000000' in file.read_bytes(), "what was spent is written")
        await process.kill()

        await process.start()

        assert (await keyed.keys())[0]["spend"]["thisMonth"] == 0.04
        assert (await ask(process, "POST", call.path, call.body(), headers)).status == 200
        await ask(process, "POST", "/reset")
        assert len(await keyed.keys()) == 1
        off = await keyed.json("PATCH", "/config", {"keys": {"enabled": False}})
        assert off["changed"] is True
        assert (await ask(process, "POST", call.path, call.body())).status == 200
        await keyed.json("PATCH", "/config", {"keys": {"enabled": True}})
        assert (await ask(process, "POST", call.path, call.body())).status == 401
        assert (await ask(process, "POST", call.path, call.body(), headers)).status == 200
