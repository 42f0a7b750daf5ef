"""What is told of requests that were refused for want of room, and of those that were made good elsewhere."""

from proxy.errors import Overloaded
from proxy.events import Events
from proxy.journey.news import News
from proxy.metrics import Registry
from proxy.testing import FakeProvider, ProxyHarness
from tests.proxy.journey.accounts import kinds, metric, pair


def test_refused_requests_are_told_at_most_every_ten_seconds_with_their_number() -> None:
    now_s, events = 100.0, Events()
    news = News(events, Registry(), lambda: now_s)

    for _ in range(5):
        news.overloaded(Overloaded("the queue is full"))
    now_s = 109.9
    news.overloaded(Overloaded("the queue is full"))
    now_s = 110.0
    news.overloaded(Overloaded("no memory"))

    assert [(event.level, event.kind, event.message) for event in events.recent()] == [
        ("WARN", "overloaded", "a request got 503, the last one because: the queue is full"),
        ("WARN", "overloaded", "6 requests got 503, the last one because: no memory"),
    ]


async def test_failures_made_good_are_told_once_a_second_for_each_provider_and_kind_and_counted_all(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={"enabled": False})
    now_s = [100.0]
    news = proxy.app.pipeline._kit.news
    news._clock = lambda: now_s[0]  # only that of what is told: the rest needs the real one

    for status in (503, 503, 503, 500):
        upstream.reply_status(status)
        await proxy.chat("Hello")
    now_s[0] = 101.0
    for status in (503, 503, 500):
        upstream.reply_status(status)
        await proxy.chat("Hello")

    told = [(event.message.partition(",")[0], event.fields.get("suppressed")) for event in proxy.events.recent()]
    assert kinds(proxy) == ["failover"] * 4
    assert [suppressed for _, suppressed in told] == [None, None, 2, None]
    assert await metric(proxy, 'failovers_total{kind="overloaded",provider="first"}') == 5
    assert await metric(proxy, 'failovers_total{kind="server-error",provider="first"}') == 2
    assert await metric(proxy, 'possible_double_executions_total{provider="first"}') == 2


async def test_asking_again_is_told_apart_from_asking_somebody_else(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(429)
    keys = ["sk-aaaaaaaaaaaa1111", "sk-bbbbbbbbbbbb2222"]
    first = upstream.provider(apiKey=None, apiKeys=keys)
    await proxy.start(providers={"first": first, "second": spare.provider(priority=1)})

    await proxy.chat("Hello")

    assert kinds(proxy) == ["retry", "failover"]
    assert await metric(proxy, 'failovers_total{kind="rate-limit",provider="first"}') == 2
