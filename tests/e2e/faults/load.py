"""Requests at a steady rate, whatever becomes of those before."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from proxy.testing import RawClient
from tests.e2e.faults.rig import Heard, Watch
from tests.e2e.rig import Call


async def load(watch: Watch, call: Call, rate: float, is_over: Callable[[float], bool], **more: Any) -> list[Heard]:
    """Ask so many times a second until it is over; connections are used again, and made where none is free.

    Args:
        is_over: asked before each request, with the seconds since the first.
        more: fields of the body to add or replace.
    Returns:
        What was heard, in the order of the requests.
    """
    loop = asyncio.get_running_loop()
    free: list[RawClient] = []
    asking: list[asyncio.Task[Heard]] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:

        async def ask() -> Heard:
            client = free.pop() if free else await stack.enter_async_context(RawClient(watch.proxy.url))
            heard = await watch.ask_on(client, call, **more)
            if heard.is_whole:
                free.append(client)
            return heard

        began_s = loop.time()
        while not is_over(loop.time() - began_s):
            asking.append(tasks.create_task(ask()))
            await asyncio.sleep(max(0.0, began_s + len(asking) / rate - loop.time()))
    return [task.result() for task in asking]
