"""A limit on time that holds whatever it cuts."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.shared.deadline import Deadline
from tests.proxy.shared.rig import SLACK_S

Loop = Callable[[Coroutine[Any, Any, Any]], Any]

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def stubborn() -> None:
    """Wait for ever in the cleanup of the cleanup."""
    try:
        await forever()
    finally:
        try:
            await forever()
        finally:
            await forever()


@pytest.mark.parametrize("waiting", [forever, stubborn])
async def test_what_waits_is_cut_when_the_time_is_over(waiting: Callable[[], Coroutine[Any, Any, None]]) -> None:
    began_s = time.monotonic()

    with pytest.raises(TimeoutError, match="no answer within 20 ms"), Deadline(0.02):
        await waiting()

    assert 0.015 < time.monotonic() - began_s < 0.02 + SLACK_S
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # a test runs in a task


async def test_what_ends_in_time_leaves_nothing_behind() -> None:
    with Deadline(0.01) as deadline:
        await asyncio.sleep(0)

    await asyncio.sleep(0.02)  # no cancellation comes later
    assert not deadline.is_over


async def test_error_of_what_it_encloses_passes_through() -> None:
    with pytest.raises(KeyError), Deadline(1):
        raise KeyError("mine")


@pytest.mark.parametrize("waiting", [forever, stubborn])
async def test_task_that_is_cancelled_ends_as_cancelled(waiting: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        with Deadline(0.05):
            await waiting()

    task = asyncio.get_running_loop().create_task(within())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task], timeout=5)

    assert task.cancelled()


async def test_deadlines_within_each_other_each_cut_their_own() -> None:
    with Deadline(5) as outer:
        with pytest.raises(TimeoutError), Deadline(0.01):
            await forever()
        await asyncio.sleep(0)

    assert not outer.is_over


async def test_deadline_within_a_timeout_that_comes_first_leaves_it_to_that() -> None:
    async def within() -> None:
        async with asyncio.timeout(0.01):
            with Deadline(5):
                await forever()

    with pytest.raises(TimeoutError) as caught:
        await within()

    assert "no answer" not in str(caught.value)


@LOOPS
def test_answer_that_came_while_the_loop_was_busy_is_not_late(run: Loop) -> None:
    async def answered() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with Deadline(0.02):
            writer.write(b"?")
            time.sleep(0.06)  # noqa: ASYNC251 (the loop is held up by somebody else, while the answer comes)
            answer = await reader.readexactly(1)
        writer.close()
        return answer

    async def ask() -> bytes:
        nonlocal port
        echo = await asyncio.to_thread(_EchoThread)
        port = echo.port
        try:
            return await answered()
        finally:
            await asyncio.to_thread(echo.end)

    port = 0

    assert run(ask()) == b"?"


@LOOPS
def test_time_that_the_loop_spent_elsewhere_is_given_back(run: Loop) -> None:
    async def ask() -> bytes:
        echo = await asyncio.to_thread(_EchoThread, delay_s=0.02)
        try:
            with Deadline(0.1):
                asyncio.get_running_loop().call_soon(time.sleep, 0.2)
                reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
                writer.write(b"?")
                answer = await reader.readexactly(1)
            writer.close()
            return answer
        finally:
            await asyncio.to_thread(echo.end)

    assert run(ask()) == b"?"


async def test_time_that_is_given_back_has_an_end() -> None:
    began_s = time.monotonic()

    async def within() -> None:
        with Deadline(0.1):
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
            await forever()

    with pytest.raises(TimeoutError):
        await within()

    assert 0.3 + 0.04 < time.monotonic() - began_s < 0.3 + 0.05 + SLACK_S


class _EchoThread:
    """Answers one byte from a thread, so that it answers while the loop is held up."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        connection.settimeout(5)
        with connection:
            byte = connection.recv(1)
            time.sleep(self._delay_s)
            connection.sendall(byte)
            connection.recv(1)

    def end(self) -> None:
        self._thread.join(5)
        self._socket.close()
