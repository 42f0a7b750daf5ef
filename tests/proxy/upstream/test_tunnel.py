"""Providers behind an HTTP proxy: CONNECT, then the same as without."""

import asyncio
import base64
import ssl
from pathlib import Path

import pytest
import trustme

from proxy.config.models import TimeoutSettings, TlsSettings
from proxy.errors import ConfigError, UpstreamConnect, UpstreamConnectTimeout
from proxy.upstream.tls import make_context
from proxy.upstream.tunnel import ForwardProxy
from tests.proxy.upstream.scripted import Peer, Script, Scripted, answer, ask, make_pool, serve_forever


def forward(to_port: int) -> Script:
    """Make the script of a forward proxy that leads all tunnels to one port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def script(peer: Peer) -> None:
        if await peer.read_head():
            reader, writer = await asyncio.open_connection("127.0.0.1", to_port)
            await peer.send(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            await asyncio.gather(pump(reader, peer.writer), pump(peer.reader, writer), return_exceptions=True)

    return script


@pytest.mark.parametrize("is_tls", [False, True])
async def test_provider_is_reached_through_the_tunnel(is_tls: bool, tmp_path: Path) -> None:
    server_tls = client_tls = None
    if is_tls:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        client_tls = make_context(TlsSettings.model_validate({"caFile": str(tmp_path / "ca.pem")}))
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("api.invalid").configure_cert(server_tls)
    async with Scripted(serve_forever, server_tls) as server, Scripted(forward(server.port)) as proxy:
        url = f"http://us%40er:pass@127.0.0.1:{proxy.port}"
        pool = make_pool(443, host="api.invalid", tls=client_tls, proxy_url=url)

        for _ in range(2):
            assert (await ask(pool)).body == b"ok"

        assert pool.opened == 1
        assert proxy.peers[0].received.split(b"\r\n") == [
            b"CONNECT api.invalid:443 HTTP/1.1",
            b"Host: api.invalid:443",
            b"Proxy-Authorization: Basic " + base64.b64encode(b"us@er:pass"),
            b"",
            b"",
        ]
        assert b"CONNECT" not in server.peers[0].received
        await pool.aclose()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!", "with 407"),
        (b"HTTP/1.1 503 Nope\r\n\r\n", "with 503"),
        (b"SSH-2.0\r\n\r\n", "did not answer CONNECT as HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nextra", "did not answer CONNECT as HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000, "more than 16384 bytes"),
        (b"", "closed the connection"),
    ],
)
async def test_refusal_of_the_proxy_is_told_with_its_status(wire: bytes, message: str) -> None:
    async with Scripted(answer(wire, then="close")) as proxy:
        with pytest.raises(UpstreamConnect, match=message) as caught:
            await make_pool(443, host="api.invalid", proxy_url=f"http://u:secret@127.0.0.1:{proxy.port}").connect()

        assert f"proxy 127.0.0.1:{proxy.port}" in caught.value.message
        assert "secret" not in caught.value.message


async def test_silent_proxy_is_cut_at_the_connect_timeout() -> None:
    async with Scripted(answer()) as proxy:
        with pytest.raises(UpstreamConnectTimeout, match=r"no tunnel with api.invalid:443 within 0.1 s"):
            await make_pool(
                443,
                host="api.invalid",
                proxy_url=f"http://127.0.0.1:{proxy.port}",
                timeouts=TimeoutSettings(connect=0.1),
            ).connect()

        await asyncio.wait_for(proxy.peers[0].gone.wait(), 0.5)


@pytest.mark.parametrize(
    "url", ["https://proxy:443", "socks5://p:1", "proxy:3128", "http://", "http://p:x", "http://[::1"]
)
def test_proxy_that_we_cannot_use_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form"):
        ForwardProxy.parse(url)


def test_refused_url_is_not_shown_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        ForwardProxy.parse("https://user:secret@proxy:443")

    assert "secret" not in caught.value.message
