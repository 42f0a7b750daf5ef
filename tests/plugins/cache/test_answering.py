"""The cache in a real proxy: what is answered without a provider, and what never is."""

from typing import Any

import pytest

from proxy.testing import FakeProvider, ProxyHarness

ON = {"enabled": True}


@pytest.fixture
async def cached(proxy: ProxyHarness, upstream: FakeProvider) -> ProxyHarness:
    await proxy.start(providers={"vendor": upstream.provider()}, cache=ON)
    return proxy


async def test_repeated_question_is_answered_without_asking_again(cached: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris")

    first = await cached.chat("Capital of France?")
    second = await cached.chat("Capital of France?")

    assert (first.text, second.text) == ("Paris", "Paris")
    assert (first.header("x-cache"), second.header("x-cache")) == ("miss", "hit")
    assert (first.header("x-cache-reason"), second.header("age")) == ("absent", "0")
    assert second.response.body == first.response.body
    assert upstream.requests_seen == 1


async def test_stream_is_given_again_byte_by_byte(cached: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["Pa", "ris"])

    first = await cached.chat("Capital of France?", stream=True)
    second = await cached.chat("Capital of France?", stream=True)

    assert second.response.body == first.response.body
    assert (second.header("x-cache"), second.header("content-type")) == ("hit", first.header("content-type"))
    assert upstream.requests_seen == 1


STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(("first", "second"), [(STREAMED, {}), ({}, STREAMED), ({}, {"stream": True})])
async def test_answer_is_given_in_the_other_manner(
    cached: ProxyHarness, upstream: FakeProvider, first: dict[str, Any], second: dict[str, Any]
) -> None:
    upstream.reply("Paris in France")

    await cached.chat("Where?", **first)
    again = await cached.chat("Where?", **second)

    assert (again.text, again.header("x-cache")) == ("Paris in France", "hit")
    assert upstream.requests_seen == 1


async def test_stream_that_told_no_usage_is_not_made_a_whole_reply(
    cached: ProxyHarness, upstream: FakeProvider
) -> None:
    await cached.chat("Where?", stream=True)
    again = await cached.chat("Where?")

    assert (again.header("x-cache"), again.header("x-cache-reason")) == ("miss", "kept in another form")
    assert upstream.requests_seen == 2
