"""Meters for tests that hold for both: those in memory, and one that asks the script on a Redis each time."""

from itertools import count
from pathlib import Path
from typing import Any, Protocol

import redis

from plugins.rate_limit.limit import NEVER, Limit
from plugins.rate_limit.meter import Meter, Reserved
from plugins.rate_limit.meters import new_meter, resumed
from plugins.rate_limit.script import PROGRAM
from plugins.rate_limit.shared import ANY_QUEUE, words_of

CLOCK = "local clock = tonumber(ARGV[2])\n"
"""In tests the id of the request is its time."""


class ScriptMeter:
    """One count on the server, under the limit that it has at the moment."""

    def __init__(self, script: Any, name: str, limit: Limit) -> None:
        self.limit = limit
        self._script = script
        self._name = name

    def wait_us(self, amount: int, now_us: int) -> int:
        wait_us: int = self._ask("peek", amount, now_us)[0]
        return NEVER if wait_us < 0 else wait_us

    def add(self, amount: int, now_us: int) -> None:
        assert self._ask("take", amount, now_us)[0] == 0, "the script takes only what there is room for"

    def reserve(self, amount: int, now_us: int) -> int:
        answer = self._ask("take", amount, now_us, is_reserved=1)
        assert answer[0] == 0
        return answer[3]

    def settle(self, delta: int, reserved: Reserved, now_us: int) -> None:
        self._run("settle", now_us, (delta, reserved.amount, reserved.taken_us, reserved.mark))

    def remaining(self, now_us: int) -> int:
        return self._ask("peek", 0, now_us)[1]

    def reset_us(self, now_us: int) -> int:
        return self._ask("peek", 0, now_us)[2]

    def queue_us(self, now_us: int) -> int:
        return self._ask("peek", 0, now_us)[4]

    def _ask(self, action: str, amount: int, now_us: int, is_reserved: int = 0) -> list[int]:
        answers: list[list[int]] = self._run(action, now_us, (amount, is_reserved, ANY_QUEUE))[1]
        return answers[0]

    def _run(self, action: str, now_us: int, row: tuple[int, ...]) -> Any:
        return self._script(keys=[self._name], args=words_of(action, str(now_us), [self.limit], [True], [row]))


AnyMeter = Meter | ScriptMeter


class Counting(Protocol):
    """Makes meters, and has them go on under another limit."""

    is_shared: bool

    def new(self, limit: Limit) -> AnyMeter: ...

    def resumed(self, meter: AnyMeter, limit: Limit, now_us: int) -> AnyMeter: ...


class MemoryCounting:
    is_shared = False

    def new(self, limit: Limit) -> AnyMeter:
        return new_meter(limit)

    def resumed(self, meter: AnyMeter, limit: Limit, now_us: int) -> AnyMeter:
        assert isinstance(meter, Meter)
        return resumed(meter, limit, now_us)


class ScriptCounting:
    is_shared = True

    def __init__(self, path: Path) -> None:
        self._redis = redis.Redis(unix_socket_path=str(path))
        self._script = self._redis.register_script(CLOCK + PROGRAM)
        self._numbers = count()

    def new(self, limit: Limit) -> AnyMeter:
        return ScriptMeter(self._script, f"test:{next(self._numbers)}", limit)

    def resumed(self, meter: AnyMeter, limit: Limit, now_us: int) -> AnyMeter:
        """Nothing is done: the next call finds another limit than the last one."""
        meter.limit = limit
        return meter

    def close(self) -> None:
        self._redis.close()
