"""What operators are shown first: health, readiness, providers, and the configuration in force."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy import __version__
from proxy.config.document import dotted
from proxy.config.patch import leaves
from proxy.exchange import JsonObject
from proxy.pipeline import Pipeline
from proxy.plugin import AdminReply, AdminRequest, AdminRoute
from proxy.reload.configuration import Configuration
from proxy.server.connection import ConnectionServer
from proxy.server.memory import Memory
from proxy.server.orders import Answers, ends
from proxy.values import format_duration, format_size

WORKERS: Final = 1
"""Processes that answer: every limit is one of this process, and there is no other."""

HIGH_MEMORY_PERCENT: Final = 90.0


@dataclass(slots=True)
class State:
    """Where the process is in its life."""

    started_s: float
    is_ready: bool = False
    is_draining: bool = False


class Status:
    """Answers the core's own admin routes.

    Args:
        store_problem: what is wrong with the shared store, None where nothing is.
        is_admin: whether a call may see everything.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        state: State,
        configuration: Configuration,
        answers: Answers,
        memory: Memory,
        clients: Callable[[], ConnectionServer],
        store_problem: Callable[[], str | None],
        *,
        clock: Callable[[], float],
        is_admin: Callable[[AdminRequest], bool],
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._clock = clock
        self._configuration = configuration
        self._answers = answers
        self._memory = memory
        self._clients = clients
        self._store_problem = store_problem
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
        if (problem := self._store_problem()) is not None:
            found.append(problem)
        if (problem := self._memory.problem()) is not None:
            found.append(problem)
        elif self._memory.usage.percent > HIGH_MEMORY_PERCENT:
            found.append(f"memory is at {self._memory.usage.percent:.0f}% of the limit")
        if (problem := self._clients().problem()) is not None:
            found.append(problem)
        return found

    def _is_unhealthy(self) -> bool:
        return not self._state.is_ready or self._state.is_draining or not self._pipeline.generation.endpoints

    async def _health(self, request: AdminRequest) -> AdminReply:
        problems = self.problems()
        is_unhealthy, usage = self._is_unhealthy(), self._memory.usage
        body: JsonObject = {
            "status": "unhealthy" if is_unhealthy else "degraded" if problems else "healthy",
            "version": __version__,
            "uptime": format_duration(self._clock() - self._state.started_s),
            "memoryUsage": format_size(usage.resident_bytes),
        }
        if self._is_admin(request):
            standing = self._configuration.standing
            body |= {
                "memoryPercent": round(usage.percent, 1),
                "memoryLimitedBy": usage.limited_by,
                "requestsInFlight": self._pipeline.in_flight,
                "requestsQueued": self._pipeline.slots.waiting,
                "maxConcurrency": self._pipeline.slots.limit,
                "connections": len(self._clients().connections),
                "maxConnections": self._clients().limit,
                "workers": WORKERS,
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
