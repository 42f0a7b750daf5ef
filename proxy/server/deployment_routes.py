"""The admin routes under `/deployments`: every revision there was, how two differ, and the way back."""

from collections.abc import Callable

from proxy.config.patch import Json
from proxy.config.revisions import Revision
from proxy.errors import Refused, UnknownPath
from proxy.plugin import AdminReply, AdminRequest, AdminRoute
from proxy.reload.configuration import Configuration
from proxy.reload.file import ConfigFile
from proxy.server.orders import Answers, ends, flag, order_of
from proxy.values import timestamp


class DeploymentRoutes:
    """Answers operators about revisions.

    Args:
        file: the configuration file; None where there is none.
        restart: ends this process and starts it anew, requests in work first.
    """

    def __init__(
        self,
        configuration: Configuration,
        answers: Answers,
        file: Callable[[], ConfigFile | None],
        restart: Callable[[], None],
    ) -> None:
        self._configuration = configuration
        self._answers = answers
        self._file = file
        self._restart = restart

    def routes(self) -> list[AdminRoute]:
        """List the routes."""
        return [
            AdminRoute("GET", "/deployments", self._list, "Every revision that is kept, newest first."),
            AdminRoute("POST", "/deployments", self._deploy, "Read the configuration file again and apply it."),
            AdminRoute("GET", "/deployments/{id}", self._show, "One revision, whole."),
            AdminRoute("GET", "/deployments/{a}/diff/{b}", self._diff, "How two revisions differ."),
            AdminRoute("POST", "/deployments/{id}/rollback", self._roll_back, "Put a revision in force again."),
        ]

    async def _list(self, request: AdminRequest) -> Json:
        listed = await self._configuration.record.summaries(self._summary)
        return {"current": self._configuration.standing.revision, "deployments": listed}

    async def _show(self, request: AdminRequest) -> Json:
        revision = await self._find(request.params["id"])
        return {**self._summary(revision), "diff": list(revision.diff), "document": revision.document}

    async def _diff(self, request: AdminRequest) -> Json:
        one, other = await self._find(request.params["a"]), await self._find(request.params["b"])
        return {"from": one.number, "to": other.number, "diff": list(await self._configuration.difference(one, other))}

    async def _roll_back(self, request: AdminRequest) -> AdminReply:
        order = order_of(request, "rollback", is_trusted=True)  # it was in force once
        number = _number(request.params["id"])
        return await self._answers.change(await self._configuration.roll_back(number, order), order)

    async def _deploy(self, request: AdminRequest) -> AdminReply:
        file = self._file()
        if file is None:
            raise Refused("this proxy was started without a configuration file", code="no_config_file", status=409)
        order = order_of(request, "file", is_trusted=True, also=["restart"])
        may_restart = flag(request, "restart") and not order.is_dry_run
        outcome = await file.apply(order)
        restarts = may_restart and bool(self._answers.restart_needed(outcome.loaded))
        reply = await self._answers.change(outcome, order, restarting=restarts)
        if restarts:
            self._restart()
        return reply

    def _summary(self, revision: Revision) -> Json:
        standing = self._configuration.standing
        made = [one for one in standing.pending if one.number == revision.number]
        return {
            "id": revision.number,
            "time": timestamp(revision.time_s),
            "author": revision.author,
            "cause": revision.cause,
            "reason": revision.reason,
            "changes": len(revision.diff),
            "isCurrent": revision.number == standing.revision,
            **ends(made),
        }

    async def _find(self, text: str) -> Revision:
        return await self._configuration.find(_number(text))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UnknownPath(f"{text[:40]!a} is no number of a revision")
    return int(text)
