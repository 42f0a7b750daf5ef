"""Order, answers and containment of the request hooks (E1, E2, E3, E6 of the fault list)."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from proxy import hookimpl
from proxy.errors import MalformedBody, PluginFailed, Refused
from proxy.exchange import Candidate, Exchange, Reply, Wait
from proxy.host.containment import Limits
from proxy.plugin import Plugin, PluginConfig
from proxy.sink import StreamFilter
from tests.proxy.host.rig import Rig, make_exchange

GIVEN = (Candidate("a", "m"), Candidate("b", "m"), Candidate("c", "m"))

STRAY: list[Callable[[], BaseException]] = [
    lambda: ValueError("no"),
    asyncio.CancelledError,
    GeneratorExit,
    lambda: BaseException("base"),
    StopIteration,
    TimeoutError,
]


def plugin(plugin_name: str, on_failure_: Any = "open", **hooks: Callable[..., Any]) -> type[Plugin[Any]]:
    """Make a plugin class out of functions, `self` included."""

    class Made(Plugin[PluginConfig]):
        name = plugin_name
        on_failure = on_failure_

    for name, function in hooks.items():
        setattr(Made, name, hookimpl(function))
    return Made


async def test_nobody_implementing_a_hook_leaves_nothing_to_call() -> None:
    rig = Rig(plugin("idle"))

    hooks = (rig.dispatch.pre_request, rig.dispatch.select_provider, rig.dispatch.post_response)

    assert hooks == ((), (), ())
    assert not rig.dispatch.has_stream_filters
    assert await rig.dispatch.run_pre_request(make_exchange()) is None


async def test_plugin_that_wants_noted_ends_only_hears_of_no_others() -> None:
    heard: list[str] = []
    kind = plugin("picky", post_response=lambda self, exchange: heard.append(exchange.id))
    kind.ends_noted_only = True
    rig = Rig(kind)

    await rig.dispatch.run_post_response(make_exchange(id="plain"))
    await rig.dispatch.run_post_response(make_exchange(id="noted", notes={"picky": 1}))
    await rig.dispatch.run_post_response(make_exchange(id="others", notes={"other": 1}))
    await rig.dispatch.run_post_response(make_exchange(id="background", is_background=True))

    assert heard == ["noted", "background"]
    assert not rig.dispatch.wants_all_ends
    assert Rig(kind, plugin("all", post_response=lambda self: None)).dispatch.wants_all_ends


async def test_hooks_are_called_in_the_order_of_the_list() -> None:
    async def slow(self: Any, exchange: Exchange) -> None:
        await asyncio.sleep(0)
        exchange.notes.setdefault("order", []).append(self.name)

    def plain(self: Any, exchange: Exchange) -> None:
        exchange.notes.setdefault("order", []).append(self.name)

    class Late(Plugin[PluginConfig]):
        name = "late"

        @hookimpl(trylast=True)
        def pre_request(self, exchange: Exchange) -> None:
            plain(self, exchange)

    rig, exchange = Rig(Late, plugin("one", pre_request=slow), plugin("two", pre_request=plain)), make_exchange()

    await rig.dispatch.run_pre_request(exchange)

    assert exchange.notes["order"] == ["one", "two", "late"]


async def test_first_reply_ends_the_round() -> None:
    reply = Reply(body=b"here")
    asked = []

    async def answers(self: Any) -> Reply:
        return reply

    rig = Rig(plugin("first", pre_request=answers), plugin("second", pre_request=lambda self: asked.append(1)))

    assert await rig.dispatch.run_pre_request(make_exchange()) is reply
    assert not asked


@pytest.mark.parametrize("make_error", STRAY)
@pytest.mark.parametrize("how", ["plain", "at once", "later"])
async def test_raising_hook_is_contained_and_named(make_error: Callable[[], BaseException], how: str) -> None:
    def plain(self: Any) -> None:
        raise make_error()

    async def at_once(self: Any) -> None:
        raise make_error()

    async def later(self: Any) -> None:
        await asyncio.sleep(0)
        raise make_error()

    function = {"plain": plain, "at once": at_once, "later": later}[how]
    rig = Rig(plugin("bad", pre_request=function, post_response=function))

    reply = await rig.dispatch.run_pre_request(make_exchange())
    await rig.dispatch.run_post_response(make_exchange())

    assert reply is None
    assert [event.fields["hook"] for event in rig.told("plugin_failed")] == ["pre_request", "post_response"]
    assert rig.count("errors", "bad", "pre_request") == 1
    assert rig.count("calls", "bad", "pre_request") == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_orders_to_end_the_process_pass(kind: type[BaseException]) -> None:
    def ends(self: Any) -> None:
        raise kind

    rig = Rig(plugin("ends", pre_request=ends))

    with pytest.raises(kind):
        await rig.dispatch.run_pre_request(make_exchange())


async def test_failure_of_a_fail_closed_plugin_refuses_the_request() -> None:
    def bad(self: Any) -> None:
        raise ValueError("secret detail")

    rig = Rig(plugin("guard", "closed", pre_request=bad))

    for _ in range(30):
        with pytest.raises(PluginFailed) as failure:
            await rig.dispatch.run_pre_request(make_exchange())

    assert failure.value.status == 503
    assert "secret" not in failure.value.message
    assert rig.host.switched_off == []


@pytest.mark.parametrize("error", [Refused("limit", code="rate_limited", status=429), MalformedBody("shape")])
async def test_refusal_reaches_the_client_and_is_no_failure(error: Exception) -> None:
    async def refuses(self: Any) -> None:
        raise error

    rig = Rig(plugin("limiter", pre_request=refuses))

    for _ in range(30):
        with pytest.raises(type(error)):
            await rig.dispatch.run_pre_request(make_exchange())

    assert rig.count("errors", "limiter", "pre_request") == 0
    assert rig.host.switched_off == []


@pytest.mark.parametrize("junk", [{"status": 200}, "reply", True, Wait(asyncio.sleep, float("nan"))])  # type: ignore[arg-type]  # junk
async def test_junk_answer_counts_as_an_exception(junk: object) -> None:
    rig = Rig(plugin("junky", pre_request=lambda self: junk))

    assert await rig.dispatch.run_pre_request(make_exchange()) is None
    assert rig.count("errors", "junky", "pre_request") == 1


async def test_constant_failure_is_told_once_in_ten_seconds() -> None:
    def bad(self: Any) -> None:
        raise ValueError("no")

    rig = Rig(plugin("guard", "closed", pre_request=bad))

    for second in (0.0, 1.0, 2.0, 11.0):
        rig.clock.now_s = 1000.0 + second
        with pytest.raises(PluginFailed):
            await rig.dispatch.run_pre_request(make_exchange())

    assert [event.fields["left_out"] for event in rig.told("plugin_failed")] == [0, 2]


async def test_hanging_hook_is_cut_at_its_budget() -> None:
    async def hangs(self: Any) -> None:
        await asyncio.sleep(3600)

    rig = Rig(plugin("hangs", pre_request=hangs))

    started = time.perf_counter()
    reply = await rig.dispatch.run_pre_request(make_exchange())

    assert reply is None
    assert 0.019 <= time.perf_counter() - started < 0.2
    assert rig.count("overruns", "hangs", "pre_request") == 1
    assert "budget of 20 ms" in rig.told("plugin_failed")[0].message


async def test_hook_that_blocks_the_loop_is_named() -> None:
    class Slow(Plugin[PluginConfig]):
        name = "slow"

        @hookimpl
        async def pre_request(self) -> Reply:
            await asyncio.sleep(0)
            time.sleep(0.003)  # noqa: ASYNC251  # the fault
            return Reply()

    rig = Rig(Slow, limits=Limits(slow_s=0.002))

    assert await rig.dispatch.run_pre_request(make_exchange()) is not None

    (event,) = rig.told("plugin_slow")
    assert (event.fields["plugin"], event.fields["hook"]) == ("slow", "pre_request")
    assert rig.count("overruns", "slow", "pre_request") == 1


async def test_wait_is_followed_outside_the_budget() -> None:
    async def arrives() -> Reply:
        await asyncio.sleep(0.03)
        return Reply(body=b"shared")

    rig = Rig(plugin("cache", pre_request=lambda self: Wait(arrives(), 5)))

    reply = await rig.dispatch.run_pre_request(make_exchange())

    assert reply is not None
    assert reply.body == b"shared"
    assert rig.count("overruns", "cache", "pre_request") == 0


async def test_wait_past_its_deadline_lets_the_request_go_on() -> None:
    flight: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
    rig = Rig(plugin("cache", pre_request=lambda self: Wait(flight, 0.01)))

    assert await rig.dispatch.run_pre_request(make_exchange()) is None
    assert flight.cancelled()
    assert not rig.told("plugin_failed")


async def test_wait_that_fails_or_gives_junk_is_contained() -> None:
    async def fails() -> Reply:
        raise ValueError("flight")

    async def junk() -> Any:
        return "text"

    rig = Rig(
        plugin("one", pre_request=lambda self: Wait(fails(), 1)),
        plugin("two", pre_request=lambda self: Wait(junk(), 1)),
    )

    assert await rig.dispatch.run_pre_request(make_exchange()) is None
    assert [event.fields["plugin"] for event in rig.told("plugin_failed")] == ["one", "two"]


async def test_wait_may_end_in_a_refusal() -> None:
    async def refuses() -> None:
        raise Refused("queue is full", code="overloaded", status=503)

    rig = Rig(plugin("admission", pre_request=lambda self: Wait(refuses(), 1)))

    with pytest.raises(Refused):
        await rig.dispatch.run_pre_request(make_exchange())


def test_first_selection_wins() -> None:
    rig = Rig(
        plugin("none", select_provider=lambda self: None),
        plugin("turned", select_provider=lambda self, candidates: list(candidates[::-1])),
        plugin("late", select_provider=lambda self, candidates: candidates[:1]),
    )

    assert rig.dispatch.select(make_exchange(), list(GIVEN)) == GIVEN[::-1]


def test_single_candidate_is_not_put_to_plugins() -> None:
    rig = Rig(plugin("bad", select_provider=lambda self: 1 / 0))

    assert rig.dispatch.select(make_exchange(), GIVEN[:1]) == GIVEN[:1]
    assert rig.count("calls", "bad", "select_provider") == 0


async def never() -> None:
    """Its coroutine is junk here, and must not be left unawaited."""


@pytest.mark.parametrize(
    "make",
    [list, lambda: [Candidate("x", "m")], lambda: "abc", lambda: 5, lambda: set(GIVEN), never],
    ids=["empty", "not given", "text", "number", "set", "coroutine"],
)
def test_junk_selection_counts_as_an_exception(make: Callable[[], object]) -> None:
    rig = Rig(plugin("junky", select_provider=lambda self: make()))

    assert rig.dispatch.select(make_exchange(), GIVEN) == GIVEN
    assert rig.count("errors", "junky", "select_provider") == 1


def test_selection_cannot_change_what_the_next_plugin_sees() -> None:
    def empties(self: Any, candidates: Sequence[Candidate]) -> None:
        candidates.clear()  # type: ignore[attr-defined]  # the fault

    rig = Rig(
        plugin("bad", select_provider=empties), plugin("good", select_provider=lambda self, candidates: candidates)
    )

    assert rig.dispatch.select(make_exchange(), list(GIVEN)) == GIVEN


def test_selection_may_refuse() -> None:
    def refuses(self: Any) -> None:
        raise Refused("not today", code="closed")

    rig = Rig(plugin("gate", select_provider=refuses))

    with pytest.raises(Refused):
        rig.dispatch.select(make_exchange(), GIVEN)


def test_failing_selection_of_a_fail_closed_plugin_refuses_the_request() -> None:
    rig = Rig(plugin("gate", "closed", select_provider=lambda self: 1 / 0))

    with pytest.raises(PluginFailed):
        rig.dispatch.select(make_exchange(), GIVEN)


class Upper:
    """A filter that also holds back the last event."""

    def __init__(self) -> None:
        self.held = b""

    def event(self, event: bytes) -> bytes:
        held, self.held = self.held, event.upper()
        return held

    def end(self) -> bytes:
        return self.held


class Suffix:
    def event(self, event: bytes) -> bytes:
        return event + b"!"

    def end(self) -> bytes:
        return b"."


class Failing:
    def event(self, event: bytes) -> bytes:
        raise ValueError("filter")

    def end(self) -> bytes:
        return b"never"


def run_filter(chain: StreamFilter, *events: bytes) -> bytes:
    return b"".join([*(chain.event(event) for event in events), chain.end()])


def test_filters_are_chained_in_order() -> None:
    rig = Rig(
        plugin("upper", stream_filter=lambda self, exchange: Upper()),
        plugin("none", stream_filter=lambda self: None),
        plugin("suffix", stream_filter=lambda self: Suffix()),
    )

    assert run_filter(rig.dispatch.filters(make_exchange()), b"a", b"b") == b"A!B!."


def test_no_filter_for_this_stream_costs_it_nothing() -> None:
    rig = Rig(plugin("none", stream_filter=lambda self: None))

    assert rig.dispatch.filters(make_exchange()) is None


def test_failing_filter_leaves_the_stream() -> None:
    rig = Rig(
        plugin("bad", stream_filter=lambda self: Failing()), plugin("suffix", stream_filter=lambda self: Suffix())
    )

    assert run_filter(rig.dispatch.filters(make_exchange()), b"a", b"b") == b"a!b!."
    assert rig.count("errors", "bad", "stream_event") == 1


def test_filter_failing_in_stream_after_stream_is_switched_off() -> None:
    rig = Rig(plugin("bad", stream_filter=lambda self: Failing()))

    for _ in range(5):
        run_filter(rig.dispatch.filters(make_exchange()), b"a")

    assert rig.host.switched_off == ["bad"]
    assert not rig.dispatch.has_stream_filters


def test_failing_filter_of_a_fail_closed_plugin_ends_the_stream() -> None:
    rig = Rig(plugin("guard", "closed", stream_filter=lambda self: Failing()))
    chain = rig.dispatch.filters(make_exchange())

    with pytest.raises(PluginFailed):
        chain.event(b"a")


def test_filter_that_refuses_ends_the_stream_and_is_no_failure_of_its_plugin() -> None:
    class Enough(Suffix):
        def event(self, event: bytes) -> bytes:
            raise Refused("enough", code="enough", status=429)

    rig = Rig(plugin("limiter", stream_filter=lambda self: Enough()))
    chain = rig.dispatch.filters(make_exchange())

    for _ in range(10):
        with pytest.raises(Refused, match="enough"):
            chain.event(b"a")

    assert rig.count("errors", "limiter", "stream_filter") == 0
    assert rig.host.switched_off == []


@pytest.mark.parametrize("junk", [object(), "filter"])
def test_junk_filter_counts_as_an_exception(junk: object) -> None:
    rig = Rig(plugin("junky", stream_filter=lambda self: junk))

    assert rig.dispatch.filters(make_exchange()) is None
    assert rig.count("errors", "junky", "stream_filter") == 1


def test_filter_that_returns_no_bytes_leaves_the_stream() -> None:
    class Text(Suffix):
        def event(self, event: bytes) -> bytes:
            return "text"  # type: ignore[return-value]  # the fault

    rig = Rig(plugin("junky", stream_filter=lambda self: Text()))

    assert run_filter(rig.dispatch.filters(make_exchange()), b"a") == b"a"


async def test_every_plugin_is_told_of_the_end_though_one_fails() -> None:
    told = []

    def refuses(self: Any) -> None:
        raise Refused("no", code="no")

    async def notes(self: Any, exchange: Exchange) -> str:
        told.append(exchange.id)
        return "ignored"

    rig = Rig(plugin("bad", "closed", post_response=refuses), plugin("good", post_response=notes))

    await rig.dispatch.run_post_response(make_exchange())

    assert told == ["r-1"]
    assert rig.count("errors", "bad", "post_response") == 1


async def test_every_plugin_is_told_of_the_end_though_the_task_is_cancelled() -> None:
    told = []

    async def waits(self: Any) -> None:
        await asyncio.sleep(3600)

    rig = Rig(plugin("waits", post_response=waits), plugin("good", post_response=lambda self: told.append(1)))
    task = asyncio.create_task(rig.dispatch.run_post_response(make_exchange()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert told == [1]
    assert task.cancelled()
    assert not rig.told("plugin_failed")
