"""A body that is streamed can be read once, and names its model itself: who it may be sent to."""

import pytest

from proxy.testing import FakeProvider, Fault, FaultProxy, ProxyHarness
from tests.proxy.journey.accounts import given_back, pair

FORM = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'
FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=b"}


async def test_upload_goes_to_another_provider_if_nothing_was_sent(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    spare.reply_status(200, {"text": "heard"})
    async with FaultProxy(upstream.url) as way:
        way.set(Fault.refuse())
        await proxy.start(providers={"first": way.provider(), "second": spare.provider(priority=1)})

        reply = await proxy.request("POST", "/v1/audio/transcriptions", FORM, FORM_TYPE)

    assert (reply.status, reply.header("x-attempts")) == (200, "2")
    assert bytes(spare.last_request.body) == FORM
    await given_back(proxy)


async def test_upload_is_not_sent_to_a_fallback_model_whose_name_it_does_not_say(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    async with FaultProxy(upstream.url) as way:
        way.set(Fault.refuse())
        await proxy.start(
            providers={"first": way.provider(models=["whisper-1"]), "second": spare.provider(models=["other"])},
            failover={"models": {"whisper-1": {"fallbacks": ["other"]}}},
        )

        reply = await proxy.request("POST", "/v1/audio/transcriptions", FORM, FORM_TYPE)

    assert (reply.status, spare.requests_seen) == (502, 0)
    assert "upstream_connect" in reply.text


ORDERS = [["down/whisper-1", "odd/other", "well/whisper-1"], ["odd/other", "down/whisper-1", "well/whisper-1"]]


@pytest.mark.parametrize("targets", ORDERS, ids=["in between", "first"])
async def test_upload_passes_by_who_names_the_model_otherwise(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, targets: list[str]
) -> None:
    spare.reply_status(200, {"text": "heard"})
    async with FaultProxy(upstream.url) as way:
        way.set(Fault.refuse())
        await proxy.start(
            providers={"down": way.provider(), "odd": upstream.provider(), "well": spare.provider()},
            models={"whisper-1": targets},
        )

        reply = await proxy.request("POST", "/v1/audio/transcriptions", FORM, FORM_TYPE)

    assert (reply.status, reply.header("x-provider"), reply.header("x-attempts")) == (200, "well", "2")
    assert (upstream.requests_seen, bytes(spare.last_request.body)) == (0, FORM)
    await given_back(proxy)


async def test_upload_whose_model_everybody_names_otherwise_is_refused_with_a_name_to_send(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(
        providers={"a": upstream.provider(), "b": spare.provider()}, models={"whisper-1": ["a/one", "b/two"]}
    )

    reply = await proxy.request("POST", "/v1/audio/transcriptions", FORM, FORM_TYPE)

    assert (reply.status, upstream.requests_seen, spare.requests_seen) == (400, 0, 0)
    assert "a knows 'whisper-1' as 'one', and a form is passed on as it is" in reply.text


@pytest.mark.parametrize("status", [503, 500, 429])
async def test_upload_that_was_sent_is_sent_to_nobody_else(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, status: int
) -> None:
    upstream.reply_status(status)
    await proxy.start(providers=pair(upstream, spare))

    reply = await proxy.request("POST", "/v1/audio/transcriptions", FORM, FORM_TYPE)

    assert (reply.status, spare.requests_seen) == (status, 0)
    await given_back(proxy)


async def test_upload_trusts_no_connection_that_was_idle(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"first": upstream.provider()})
    await proxy.chat("Hello")
    upstream.reply_status(200, {"text": "heard"})

    replies = [await proxy.request("POST", "/v1/audio/transcriptions", FORM, FORM_TYPE) for _ in range(2)]

    pool = proxy.app.pipeline.generation.endpoints["first"].pool
    assert pool is not None
    assert [reply.status for reply in replies] == [200, 200]
    assert (pool.opened, pool.reused) == (3, 0)
