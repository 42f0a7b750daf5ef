"""Whatever clients send, nothing beside the entries grows, and work grows with the answer, not with its square."""

import asyncio
import time
from typing import Any

import pytest

from plugins.cache.recording import Reader, Recording
from proxy.exchange import Candidate
from proxy.testing import ProxyHarness
from tests.plugins.cache.asking import exchange_of, question_of, questions
from tests.plugins.cache.rig import CHAT, said

PATH = "/v1/chat/completions"
LONG = 100_000


def recording(max_bytes: int) -> Recording:
    question = question_of(questions(), exchange_of(PATH, CHAT))

    def nothing(*_: Any) -> None:
        return None

    made = Recording(question, "absent", max_bytes, lambda: 0.0, None, None, nothing)
    made.start(200, b"")
    return made


def test_other_targets_of_a_new_revision_make_another_question() -> None:
    asked, exchange = questions(), exchange_of(PATH, CHAT)

    before = question_of(asked, exchange, (Candidate("echo", "x"),))
    after = question_of(asked, exchange, (Candidate("echo", "y"),))

    assert before.key != after.key


def test_connection_remembers_nothing_long() -> None:
    asked, exchange = questions(), exchange_of(PATH, CHAT)

    short = question_of(asked, exchange, (Candidate("echo", "x"),))
    remembered = exchange.request.memo["cache"].around
    question_of(asked, exchange, (Candidate("echo", "x" * LONG),))

    assert remembered is not None
    assert exchange.request.memo["cache"].around is None
    assert question_of(asked, exchange, (Candidate("echo", "x"),)).key == short.key


async def test_model_with_a_name_that_is_none_is_left_alone(proxy: ProxyHarness) -> None:
    await proxy.start(providers={"echo": {"type": "echo"}}, cache={"enabled": True, "smartCache": True})

    replies = [
        await proxy.request("POST", "/proxy/echo/v1/chat/completions", {**CHAT, "model": "x" * LONG}) for _ in range(2)
    ]

    assert [said(each) for each in replies] == [(200, None, None)] * 2


async def _pass(parts: int, readers: int, max_bytes: int, lag: int = 0) -> float:
    """Give an answer of so many small parts to readers, the first of whom is `lag` parts behind; seconds."""
    made = recording(max_bytes)
    behind, *others = (Reader(made) for _ in range(readers + 1))
    began_s = time.perf_counter()
    for number in range(parts):
        made.write(b"x" * 10)
        for reader in others:
            await anext(reader)
        if number >= lag and number % (lag + 1) == 0:
            await anext(behind)
    took_s = time.perf_counter() - began_s
    for reader in (behind, *others):
        reader.close()
    return took_s


@pytest.mark.parametrize(("max_bytes", "lag"), [(1 << 30, 0), (100, 0), (100, 3000)])
async def test_work_for_an_answer_grows_with_its_parts(max_bytes: int, lag: int) -> None:
    await _pass(500, 2, max_bytes, lag)

    few_s = min([await _pass(2000, 2, max_bytes, lag) for _ in range(3)])
    many_s = min([await _pass(16_000, 2, max_bytes, lag) for _ in range(3)])

    assert many_s < 8 * few_s * 3  # with its square it would be 64 times as much


async def test_work_for_readers_grows_with_their_number() -> None:
    few_s = min([await _pass(50, 50, 100) for _ in range(3)])
    many_s = min([await _pass(50, 800, 100) for _ in range(3)])

    assert many_s < 16 * few_s * 3  # with their square it would be 256 times as much


async def test_reader_that_is_lost_holds_nothing() -> None:
    made = recording(100)
    reader, lost = Reader(made), Reader(made)
    made.write(b"x" * 60)
    made.write(b"y" * 60)

    del lost
    first = await anext(reader)

    assert (first, made.followers, made.held_bytes) == (b"x" * 60 + b"y" * 60, 1, 0)


async def test_reader_gets_every_byte_whatever_the_others_do() -> None:
    made = recording(1000)
    slow, fast = Reader(made), Reader(made)
    got: dict[str, bytes] = {"slow": b"", "fast": b""}
    written = b""

    for number in range(300):
        data = b"%d," % number
        written += data
        if not made.write(data):
            waiting = asyncio.ensure_future(made.drain())
            await asyncio.sleep(0)
            got["slow"] += await anext(slow)
            got["fast"] += await anext(fast)
            await waiting
        elif number % 3 == 0:
            got["fast"] += await anext(fast)
    made.finish()
    for name, reader in (("slow", slow), ("fast", fast)):
        async for data in reader:
            got[name] += data
        reader.close()

    assert got == {"slow": written, "fast": written}
    assert (made.followers, made.held_bytes) == (0, 0)
