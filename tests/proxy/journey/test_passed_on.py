"""A provider's failure is told to operators also where the client gets the provider's own words about it."""

import pytest

from proxy.testing import FakeProvider, ProxyHarness


@pytest.mark.parametrize(("status", "told"), [(429, 1), (500, 1), (503, 1), (529, 1), (400, 0), (404, 0), (413, 0)])
async def test_failure_of_the_only_provider_is_an_event_unless_it_is_the_requests_own_fault(
    status: int, told: int
) -> None:
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        await proxy.start(failover={"attempts": 1})
        upstream.reply_status(status)

        answer = await proxy.chat("Hello")

        events = [event for event in proxy.events.recent() if event.level == "WARN"]
    assert (answer.status, b"fake" in answer.response.body) == (status, True)
    assert [event.kind for event in events] == ["upstream_rejected"] * told
    assert all(event.fields["provider"] == "fake" and str(status) in event.message for event in events)
