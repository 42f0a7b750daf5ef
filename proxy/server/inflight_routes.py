"""The admin routes under `/inflight`: the requests in work, and ending one of them."""

from proxy.errors import UnknownPath
from proxy.exchange import JsonObject
from proxy.pipeline import Pipeline
from proxy.plugin import AdminRequest, AdminRoute
from proxy.values import printable

TOLD_TO_CLIENTS = "this request was ended by an operator"


class InflightRoutes:
    """Answers operators about the requests in work."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def routes(self) -> list[AdminRoute]:
        """List the routes."""
        return [
            AdminRoute("GET", "/inflight", self._list, "The requests in work, oldest first."),
            AdminRoute("DELETE", "/inflight/{id}", self._end, "End a request; its client is told."),
        ]

    async def _list(self, request: AdminRequest) -> JsonObject:
        return self._pipeline.overview.requests()

    async def _end(self, request: AdminRequest) -> JsonObject:
        wanted = request.params["id"]
        found = [exchange for exchange in self._pipeline.running if exchange.id == wanted]
        if not found:
            raise UnknownPath(f"no request {printable(wanted)} is in work; GET /inflight lists those that are")
        ended = [exchange for exchange in found if self._pipeline.cancel(exchange, TOLD_TO_CLIENTS)]
        for exchange in ended:
            self._pipeline.overview.tell_cancelled(exchange, request.author)
        return {"id": wanted, "ended": len(ended), "endingAlready": len(found) - len(ended)}
