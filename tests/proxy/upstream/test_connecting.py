"""How connections come about, and every way in which they do not (FAULTS A1-A4)."""

import asyncio
import resource
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import trustme

from proxy.config.models import TimeoutSettings, TlsSettings
from proxy.errors import ConfigError, Overloaded, UpstreamConnect, UpstreamConnectTimeout, UpstreamTls
from proxy.upstream.dial import Origin
from proxy.upstream.pool import Pool
from proxy.upstream.tls import make_context
from tests.certificates import BadTls, bad_server_tls, server_tls
from tests.proxy.upstream.scripted import OK, Peer, Scripted, ask, make_pool, serve_forever

SHORT = TimeoutSettings(connect=0.2)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client_tls(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return make_context(TlsSettings.model_validate({"caFile": str(tmp_path / "ca.pem")}))


async def test_refused_connection_is_told_at_once_with_its_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        began_s = time.monotonic()

        with pytest.raises(UpstreamConnect) as caught:
            await make_pool(port).connect()

    assert time.monotonic() - began_s < 0.05
    assert f"127.0.0.1:{port}: " in caught.value.message
    assert "refused" in caught.value.message.lower()
    assert (caught.value.status, caught.value.may_have_executed) == (502, False)


async def test_black_hole_is_given_up_at_the_connect_timeout() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(3):  # the backlog is full: further SYNs are dropped
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        began_s = time.monotonic()

        with pytest.raises(UpstreamConnectTimeout) as caught:
            await make_pool(port, timeouts=SHORT).connect()

        assert 0.18 <= time.monotonic() - began_s <= 0.24
        assert caught.value.message == f"test: no connection with 127.0.0.1:{port} within 0.2 s"
        for filler in fillers:
            filler.close()


async def test_want_of_files_is_this_proxys_fault_and_not_the_providers() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pool = make_pool(listener.getsockname()[1])

        resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno(), hard))
        try:
            with pytest.raises(Overloaded) as caught:
                await pool.connect()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert caught.value.message == "no file is left for a connection to test (ulimit -n)"
    assert caught.value.retry_after_s == 1


async def test_unknown_host_is_told_at_once_and_asked_again_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = []

    def look_up(*_: object, **__: object) -> list[object]:
        lookups.append(1)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    pool = make_pool(80, host="nowhere.invalid")
    for _ in range(2):
        began_s = time.monotonic()
        with pytest.raises(UpstreamConnect, match=r"nowhere.invalid:80: no such host"):
            await pool.connect()
        assert time.monotonic() - began_s < 0.1

    assert len(lookups) == 2
    pool.close()


async def test_slow_lookup_is_bounded_shared_and_holds_up_no_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, lookups = threading.Event(), []
    real = socket.getaddrinfo

    def look_up(host: str, *rest: object, **named: object) -> object:
        if host != "slow.invalid":
            return real(host, *rest, **named)  # type: ignore[arg-type] # passed through
        lookups.append(1)
        answer.wait(5)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with Scripted(serve_forever) as server:
        slow = [make_pool(80, host="slow.invalid", timeouts=SHORT) for _ in range(8)]
        asking = [asyncio.ensure_future(pool.connect()) for pool in slow for _ in range(5)]
        await asyncio.sleep(0.05)
        other = make_pool(server.port, host="localhost")
        began_s = time.monotonic()
        assert (await ask(other)).body == b"ok"
        assert time.monotonic() - began_s < 0.1

        failures = await asyncio.gather(*asking, return_exceptions=True)
        answer.set()

        assert {type(failure) for failure in failures} == {UpstreamConnectTimeout}
        assert len(lookups) == 8
        for pool in slow:
            pool.close()
        await other.aclose()


async def test_next_address_is_tried_when_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Scripted(serve_forever) as server:
        ends = [("127.0.0.2", server.port), ("127.0.0.1", server.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", end) for end in ends]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        pool = make_pool(server.port, host="two.invalid")

        assert (await ask(pool)).body == b"ok"
        await pool.aclose()


async def test_tls_is_checked_spoken_and_reused(authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    async with Scripted(serve_forever, server_tls(certificate)) as server:
        pool = make_pool(server.port, tls=client_tls)

        for _ in range(3):
            heard = await ask(pool)
            assert (heard.error, heard.body, heard.idle_at_end) == (None, b"ok", 1)

        assert (pool.opened, pool.reused) == (1, 2)
        await pool.aclose()


async def test_server_name_is_asked_for_instead_of_the_host(authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    async with Scripted(serve_forever, server_tls(authority.issue_cert("inside.example"))) as server:
        pool = make_pool(server.port, tls=client_tls, server_name="inside.example")

        assert (await ask(pool)).body == b"ok"
        await pool.aclose()


async def test_unchecked_certificate_is_taken_when_told_so() -> None:
    tls = make_context(TlsSettings(verify=False))
    async with Scripted(serve_forever, server_tls(trustme.CA().issue_cert("other.example"))) as server:
        pool = make_pool(server.port, tls=tls)

        assert (await ask(pool)).body == b"ok"
        await pool.aclose()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("expired", "expired"), ("name", "127.0.0.1"), ("authority", "issuer"), ("old", ""), ("plain", "")],
)
async def test_bad_tls_is_refused_before_any_byte_of_a_request(
    fault: BadTls, reason: str, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's side of the failed handshake
    tls = bad_server_tls(fault, authority)

    async def script(peer: Peer) -> None:
        while data := await peer.reader.read(65536):
            peer.received += data
            peer.write(OK)

    async with Scripted(script, tls) as server:
        pool = make_pool(server.port, tls=client_tls)

        with pytest.raises(UpstreamTls) as caught:
            await pool.connect()

        assert reason in caught.value.message
        assert (caught.value.code, caught.value.may_have_executed) == ("upstream_tls", False)
        assert caught.value.__cause__ is not None
        await asyncio.sleep(0.02)
        assert not any(b"HTTP" in peer.received for peer in server.peers)
        assert pool.busy == 0


async def test_handshake_that_never_comes_is_cut_and_its_socket_closed(client_tls: ssl.SSLContext) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.wait_gone()
        gone.set()

    async with Scripted(script) as server:
        with pytest.raises(UpstreamConnectTimeout, match="no TLS handshake with"):
            await make_pool(server.port, tls=client_tls, timeouts=SHORT).connect()

        await asyncio.wait_for(gone.wait(), 0.5)


async def test_peer_that_closes_within_the_handshake_is_a_tls_failure(client_tls: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)

    async with Scripted(script) as server:
        with pytest.raises(UpstreamTls):
            await make_pool(server.port, tls=client_tls).connect()


def test_bad_file_of_authorities_is_named(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for path, reason in ((tmp_path / "missing.pem", "No such file"), (junk, "not a PEM file")):
        with pytest.raises(ConfigError, match=reason) as caught:
            make_context(TlsSettings.model_validate({"caFile": str(path)}))

        assert str(path) in caught.value.message
        assert caught.value.faults[0].path == "tls.caFile"


def test_context_asks_for_tls_1_2_and_checks_names() -> None:
    context = make_context(TlsSettings())

    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


async def test_cancelled_connect_leaves_no_socket_behind() -> None:
    async with Scripted(serve_forever) as server:
        pool = make_pool(server.port)
        for turns in range(8):
            connecting = asyncio.ensure_future(pool.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait((connecting,))
            if not connecting.cancelled():
                connecting.result().abort()
        await asyncio.sleep(0.02)

        assert all(peer.reader.at_eof() for peer in server.peers)
        assert pool.busy == 0


def test_ipv6_authority_stands_in_brackets() -> None:
    assert Origin("https", "::1", 8443).authority == "[::1]:8443"
    assert Origin("https", "api.example", 443).authority == "api.example:443"


def test_scheme_and_tls_must_agree() -> None:
    with pytest.raises(ConfigError):
        Pool("test", Origin("https", "x", 443), timeouts=TimeoutSettings())
