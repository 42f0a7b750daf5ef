"""What reaches a provider: the client's body as it is, the right key and never another."""

import pytest

from proxy.testing import FakeProvider, ProxyProcess
from tests.e2e.rig import CALLS, KEYS, ask

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("format", ["openai", "responses", "anthropic", "gemini", "ollama"])
async def test_body_reaches_the_provider_byte_for_byte(
    relay: ProxyProcess, upstream: FakeProvider, format: str
) -> None:
    call = CALLS[format]
    odd = b'{ "nobody_knows" : [1.0, 1e2, "\\u00e9", "\xc3\xa9"],\n\t"zz":null, ' + call.body()[1:-1] + b" } "

    response = await ask(relay, "POST", call.path, odd, call.headers)

    assert response.status == 200, response.text
    assert bytes(upstream.last_request.body) == odd


@pytest.mark.parametrize(
    ("format", "name", "value"),
    [
        ("openai", "authorization", f"Bearer {KEYS['openai']}"),
        ("anthropic", "x-api-key", KEYS["anthropic"]),
        ("gemini", "x-goog-api-key", KEYS["gemini"]),
    ],
)
@pytest.mark.parametrize(
    "shown",
    [
        {"Authorization": "Bearer client-key"},
        {"x-api-key": "client-key"},
        {"x-goog-api-key": "client-key"},
        {"api-key": "client-key"},
        {"Connection": "authorization, x-api-key, x-goog-api-key"},
        {"X_Api_Key": "client-key", "x_goog_api_key": "client-key"},
        {},
    ],
)
async def test_provider_sees_the_proxys_key_and_never_the_clients(
    relay: ProxyProcess, upstream: FakeProvider, format: str, name: str, value: str, shown: dict[str, str]
) -> None:
    call = CALLS[format]
    separator = "&" if "?" in call.path else "?"

    response = await ask(relay, "POST", f"{call.path}{separator}key=client-key&x=1", call.body(), shown)

    seen = upstream.last_request
    assert response.status == 200, response.text
    assert seen.header(name) == value
    assert "client-key" not in f"{seen.headers}{seen.path}?{seen.query}"
    assert seen.query == "x=1"
