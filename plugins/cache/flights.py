"""The same question asked again before its answer is there: one call, and everybody else waits for it."""

from collections.abc import Awaitable, Callable

from plugins.cache.question import WHOLE, Question, is_same
from plugins.cache.recording import Recording
from proxy.errors import Refused
from proxy.exchange import Exchange, Reply

MOST_FAILURES = 2
"""Calls for one question that fail one after the other; then all who wait are told of the last failure."""

Lead = Callable[[int], Recording]
"""Makes the caller's own call the one that others follow; takes how many failed before it."""

Arrange = Callable[[Exchange, Recording], Awaitable[Reply | None]]
"""Makes a whole recording the answer to an exchange that asked for it in another manner."""


class Flights:
    """The calls under way, by question.

    Args:
        wait_s: how long one who follows waits for an answer to begin.
    """

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self._under_way: dict[bytes, Recording] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def find(self, key: bytes) -> Recording | None:
        """Give the call under way for a question, if one who comes now can still have its answer."""
        found = self._under_way.get(key)
        return found if found is not None and found.may_be_joined else None

    def begin(self, recording: Recording) -> None:
        """Let others follow a call."""
        self._under_way[recording.question.key] = recording

    def end(self, recording: Recording) -> None:
        """Let nobody follow a call any more; who follows it already goes on."""
        key = recording.question.key
        if self._under_way.get(key) is recording:
            del self._under_way[key]

    async def follow(
        self, exchange: Exchange, recording: Recording, question: Question, lead: Lead, arrange: Arrange
    ) -> tuple[Reply, Recording] | None:
        """Wait for another's answer.

        When the call fails, or does not begin in time, the first who notices makes it again; the others wait for that
        one, or take its answer if it is there by then. When that fails too, they are told.

        Args:
            question: the exchange's own; it may want the answer in another manner.
        Returns:
            The answer, and the call that it is of; None where the exchange is to call for itself.
        Raises:
            Refused: the calls failed; it says how.
        """
        while True:
            reply = await self._from(exchange, recording, question.shape, arrange)
            if reply is not None:
                return reply, recording
            current = self._under_way.get(question.key)
            if current is not None and current is not recording and current.may_be_joined:
                recording = current
                continue
            last = recording
            while last.successor is not None:
                last = last.successor
            if last is not recording and last.may_be_joined:  # one who had waited longer has called, and it is over
                recording = last
                continue
            failures = last.failures_before + (last.state == "failed")
            if failures >= MOST_FAILURES:
                raise told(last)
            last.successor = lead(failures)
            return None

    async def _from(self, exchange: Exchange, recording: Recording, shape: str, arrange: Arrange) -> Reply | None:
        """Wait for one call's answer; None if it cannot be had from it."""
        if not is_same(recording.question.shape, shape):
            recording.join()
            try:
                if not await recording.begun(self.wait_s):
                    return None
                await recording.collected()
                return await arrange(exchange, recording) if recording.may_be_joined else None
            finally:
                recording.leave()
        reader = recording.reader()
        try:
            is_begun = await recording.begun(self.wait_s)
        except BaseException:
            reader.close()
            raise
        headers = head_pairs(recording.head)
        if is_begun and recording.state == "whole" and not recording.is_cut_short:
            reader.close()
            return Reply(headers=headers, body=recording.body, is_stream=shape != WHOLE)
        if not is_begun or recording.state == "failed" or not reader.has_all:
            reader.close()
            return None
        return Reply(headers=headers, events=reader)


def told(recording: Recording) -> Refused:
    """Put a failed call into words for those who waited for it."""
    error = recording.error
    if error is not None:
        message = f"the same request failed just now for another caller of the same key: {error.message}"
        return Refused(message, code=error.code, status=error.status, retry_after_s=error.retry_after_s)
    status = recording.status if recording.status >= 400 else 502
    message = f"the same request was answered with status {status} just now"
    return Refused(message, code="upstream_rejected", status=status, retry_after_s=recording.retry_after_s)


def head_pairs(head: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Take header lines apart."""
    pairs = (line.partition(b":") for line in head.split(b"\r\n") if line)
    return tuple((name, value.strip(b" \t")) for name, _, value in pairs)
