"""What operators are shown first: health, readiness, providers, and the configuration in force."""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy import __version__
from proxy.config.document import dotted
from proxy.config.patch import leaves
from proxy.exchange import JsonObject
from proxy.pipeline import Pipeline
from proxy.plugin import AdminReply, AdminRequest, AdminRoute
from proxy.reload.configuration import Configuration
from proxy.server.orders import Answers, ends
from proxy.values import format_duration, format_size

CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
NO_LIMIT_BYTES: Final = 1 << 60

HIGH_MEMORY_PERCENT: Final = 90.0


def memory_bytes() -> int:
    """Measure the resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def memory_limit() -> tuple[int, str]:
    """Find what memory is limited to, and by what: the container, the process's own limit, or the machine."""
    for path in CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < NO_LIMIT_BYTES:
            return int(text), "container"
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        return soft, "process"
    try:
        total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
        return int(total.split()[1]) * 1024, "machine"
    except (OSError, StopIteration, ValueError):
        return 0, "unknown"


@dataclass(slots=True)
class State:
    """Where the process is in its life."""

    started_s: float
    is_ready: bool = False
    is_draining: bool = False


class Status:
    """Answers the core's own admin routes.

    Args:
        is_admin: whether a call may see everything.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        state: State,
        configuration: Configuration,
        answers: Answers,
        *,
        clock: Callable[[], float],
        is_admin: Callable[[AdminRequest], bool],
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._clock = clock
        self._configuration = configuration
        self._answers = answers
        self._is_admin = is_admin

    def routes(self) -> list[AdminRoute]:
        """List the core's routes."""
        return [
            AdminRoute("GET", "/health", self._health, "Whether it is well; cheap, for watching.", "public"),
            AdminRoute("GET", "/livez", self._livez, "The process is alive; checks nothing else.", "public"),
            AdminRoute("GET", "/readyz", self._readyz, "It takes requests; 503 while starting or draining.", "public"),
        ]

    def problems(self) -> list[str]:
        """List what an operator should look at, in words that name the setting or call that mends it."""
        generation = self._pipeline.generation
        found = [f"{issue.message}; see /config/issues" for issue in self._configuration.record.troubles.values()]
        found += [
            f"plugin {name} is switched off; POST /plugins/{name}/enable switches it on"
            for name in generation.host.switched_off
        ]
        for name, endpoint in generation.endpoints.items():
            if not endpoint.provider.settings.tls.verify:
                found.append(f"certificates are not checked: providers.{name}.tls.verify is false")
        found += self._pipeline.overview.problems()
        if self._memory_percent() > HIGH_MEMORY_PERCENT:
            found.append(f"memory is at {self._memory_percent():.0f}% of the limit")
        return found

    def _memory_percent(self) -> float:
        limit, _ = memory_limit()
        return round(100 * memory_bytes() / limit, 1) if limit else 0.0

    def _is_unhealthy(self) -> bool:
        return not self._state.is_ready or self._state.is_draining or not self._pipeline.generation.endpoints

    async def _health(self, request: AdminRequest) -> AdminReply:
        problems = self.problems()
        is_unhealthy = self._is_unhealthy()
        body: JsonObject = {
            "status": "unhealthy" if is_unhealthy else "degraded" if problems else "healthy",
            "version": __version__,
            "uptime": format_duration(self._clock() - self._state.started_s),
            "memoryUsage": format_size(memory_bytes()),
        }
        if self._is_admin(request):
            _, limited_by = memory_limit()
            standing = self._configuration.standing
            body |= {
                "memoryPercent": self._memory_percent(),
                "memoryLimitedBy": limited_by,
                "requestsInFlight": self._pipeline.in_flight,
                "requestsQueued": self._pipeline.slots.waiting,
                "maxConcurrency": self._pipeline.slots.limit,
                "revision": standing.revision,
                "expiring": [
                    {"revision": one.number, **ends([one]), "reverts": [dotted(each) for each in leaves(one.inverse)]}
                    for one in standing.pending
                ],
                "restartNeeded": self._answers.restart_needed(standing.loaded),
                "isDraining": self._state.is_draining,
                "problems": problems,
            }
        return AdminReply(body, status=503 if is_unhealthy else 200)

    async def _livez(self, request: AdminRequest) -> AdminReply:
        return AdminReply({"status": "alive"})

    async def _readyz(self, request: AdminRequest) -> AdminReply:
        if self._is_unhealthy():
            return AdminReply({"status": "draining" if self._state.is_draining else "not ready"}, status=503)
        return AdminReply({"status": "ready"})
