"""Clients at a steady rate, whatever the answers: an open loop, with the fate of every request."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from proxy.testing import CutOff, RawClient, RawResponse

LONGEST_S = 30.0
STREAMS_SHARE = 3
"""One in so many requests asks for a stream."""

Fate = Literal["answered", "refused", "broken and told", "broken in silence", "unanswered", "answered twice"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client got.

    Args:
        attempts: what `X-Attempts` told.
    """

    fate: Fate
    duration_s: float
    status: int = 0
    attempts: int = 0
    text: str = ""


async def load(url: str, rate: float, seconds: float) -> Sequence[Outcome]:
    """Send requests at a rate for a time, and wait for the last answer."""
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    clients = Clients(url)
    tasks = []
    try:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begin_s + number / rate - loop.time()))
            tasks.append(loop.create_task(clients.ask(number)))
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        clients.close()


class Clients:
    """Keeps connections and asks on them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[RawClient] = []

    async def ask(self, number: int) -> Outcome:
        """Send one request and see what becomes of it."""
        is_stream = number % STREAMS_SHARE == 0
        begin_s = time.monotonic()
        client = self._idle.pop() if self._idle else await RawClient(self._url, LONGEST_S).__aenter__()
        body = b'{"model": "any", "stream": %b, "messages": [{"role": "user", "content": "number %d"}]}'
        request_id = f"chaos-{number}"
        try:
            response = await client.request(
                "POST",
                "/v1/chat/completions",
                body % (b"true" if is_stream else b"false", number),
                {"X-Request-Id": request_id},
            )
        except CutOff as error:
            client.close()
            is_told = b"upstream_" in error.partial or (not is_stream and bool(error.partial))
            fate: Fate = "broken and told" if is_told else "broken in silence" if error.partial else "unanswered"
            return Outcome(fate, time.monotonic() - begin_s, text=error.partial[-300:].decode(errors="replace"))
        except (ConnectionError, TimeoutError) as error:
            client.close()
            return Outcome("unanswered", time.monotonic() - begin_s, text=repr(error))
        duration_s = time.monotonic() - begin_s
        fate = self._judge(response, request_id, is_stream)
        if client.has_more:
            fate = "answered twice"
            client.close()
        elif response.header("connection") == "close":
            client.close()
        else:
            self._idle.append(client)
        attempts = int(response.header("x-attempts") or 0)
        return Outcome(fate, duration_s, response.status, attempts, response.text if response.status != 200 else "")

    @staticmethod
    def _judge(response: RawResponse, request_id: str, is_stream: bool) -> Fate:
        if response.header("x-request-id") != request_id:
            return "answered twice"  # somebody else's
        if response.status != 200:
            return "refused"
        is_whole = response.body.endswith(b"data: [DONE]\n\n") if is_stream else b"the answer." in response.body
        return "answered" if is_whole else "broken in silence"

    def close(self) -> None:
        """Close what is open."""
        for client in self._idle:
            client.close()
