"""How much memory this process uses, and of which limit."""

import os
import resource
from dataclasses import dataclass
from typing import Final

CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
NO_LIMIT_BYTES: Final = 1 << 60

READINGS_A_LIMIT: Final = 40
"""The limits of container and machine are read again after so many readings: they hardly ever change."""

RESIDENT_GROWTH: Final = 4
ADDRESS_GROWTH: Final = 15
"""What a request body may take in all, in times of its size. Measured with prompts of 4 to 30 MB: 3.1 times of
resident memory (its parts, the whole, what was read from it), 14 times of addresses, most of which the JSON parser
never uses."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What is in use of the limit that is nearest.

    Args:
        resident_bytes: of this process, whatever is limited.
        limit_bytes: 0 where none is known.
        limited_by: container, process, machine or unknown.
        growth: what one byte of a request body may take of it in all.
    """

    resident_bytes: int
    used_bytes: int
    limit_bytes: int
    limited_by: str
    growth: int = RESIDENT_GROWTH

    @property
    def percent(self) -> float:
        """Of the limit."""
        return 100 * self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


class Gauge:
    """Measures memory against its limit: the container's and the process's own, else the machine's."""

    def __init__(self) -> None:
        self._readings = 0
        self._container: int | None = None
        self._machine = 0
        self._sizes = _peak()

    def read(self) -> Usage:
        """Measure; 15 µs.

        The process's own limit (`ulimit -v`) is one of addresses, which are more than the resident memory.
        """
        if self._readings % READINGS_A_LIMIT == 0:
            self._container, self._machine = _container_limit(), _machine_bytes()
        self._readings += 1
        try:
            self._sizes = _sizes()
        except (OSError, ValueError):  # no /proc, or no file left to open
            pass
        addresses, resident = self._sizes
        found = []
        if self._container is not None:
            found.append(Usage(resident, resident, self._container, "container"))
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            found.append(Usage(resident, addresses, soft, "process", ADDRESS_GROWTH))
        if found:
            return max(found, key=lambda usage: usage.percent)
        return Usage(resident, resident, self._machine, "machine" if self._machine else "unknown")


def _sizes() -> tuple[int, int]:
    """Measure the address space and the resident memory, in bytes."""
    addresses, resident = _read("/proc/self/statm").split()[:2]
    return int(addresses) * resource.getpagesize(), int(resident) * resource.getpagesize()


def _peak() -> tuple[int, int]:
    """Give the most that was resident at any time for both, where nothing tells what is now."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return most, most


def _container_limit() -> int | None:
    for path in CGROUP_LIMITS:
        try:
            text = _read(path).strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < NO_LIMIT_BYTES:
            return int(text)
    return None


def _machine_bytes() -> int:
    try:
        lines = _read("/proc/meminfo").splitlines()
        return int(next(line for line in lines if line.startswith(b"MemTotal")).split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return 0


def _read(path: str) -> bytes:
    """Read a file of the kernel; a file object costs three times as much."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 14)
    finally:
        os.close(descriptor)
