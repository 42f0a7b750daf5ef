"""What is told of requests that were refused for want of room."""

from proxy.errors import Overloaded
from proxy.events import Events
from proxy.journey.news import News
from proxy.metrics import Registry


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
