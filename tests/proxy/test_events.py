"""The ring of events: bounded, in order, told to subscribers."""

from proxy.events import RING_SIZE, Event, Events


def test_event_is_kept_with_its_time_and_fields() -> None:
    events = Events(lambda: 12.5)

    events.emit("WARN", "upstream_cut", "a broke off", provider="a", attempts=2)

    assert events.recent() == [Event(12.5, "WARN", "upstream_cut", "a broke off", {"provider": "a", "attempts": 2})]


def test_ring_keeps_the_newest() -> None:
    events = Events(lambda: 0.0)

    for number in range(RING_SIZE + 10):
        events.emit("INFO", "tick", str(number))

    kept = [event.message for event in events.recent()]
    assert (len(kept), kept[0], kept[-1]) == (RING_SIZE, "10", str(RING_SIZE + 9))


def test_subscriber_is_told_of_later_events_until_it_ends_it() -> None:
    events, told = Events(lambda: 0.0), []
    events.emit("INFO", "tick", "before")

    end = events.subscribe(lambda event: told.append(event.message))
    events.emit("INFO", "tick", "during")
    end()
    events.emit("INFO", "tick", "after")

    assert told == ["during"]


def test_subscriber_may_end_itself_while_it_is_told_and_the_next_still_hears() -> None:
    events, told = Events(lambda: 0.0), []

    def once(event: Event) -> None:
        told.append("once")
        end()

    end = events.subscribe(once)
    events.subscribe(lambda event: told.append("always"))

    events.emit("INFO", "tick", "1")
    events.emit("INFO", "tick", "2")

    assert told == ["once", "always", "always"]


def test_changing_what_was_listed_does_not_change_the_ring() -> None:
    events = Events(lambda: 0.0)
    events.emit("INFO", "tick", "1")

    events.recent().clear()

    assert len(events.recent()) == 1
