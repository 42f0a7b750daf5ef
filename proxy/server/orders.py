"""Between HTTP and changes of configuration: what a call says of the change it wants, and what it is answered."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from proxy.config.faults import nearest
from proxy.config.issues import as_json, curl, restart_needed
from proxy.config.loader import Loaded
from proxy.config.models import Settings
from proxy.config.patch import Json
from proxy.config.revisions import Cause, Pending
from proxy.errors import ConfigError, Fault, MalformedBody
from proxy.plugin import AdminReply, AdminRequest, Issue
from proxy.reload.order import Order, Outcome
from proxy.values import parse_duration, printable, timestamp

MAX_REASON_LENGTH: Final = 500

FLAGS: Final = {"true": True, "1": True, "": True, "false": False, "0": False}

Issues = Callable[[Loaded], Awaitable[Sequence[Issue]]]
"""Finds what is worth telling about a configuration."""


def order_of(request: AdminRequest, cause: Cause, *, is_trusted: bool, also: Sequence[str] = ()) -> Order:
    """Read headers and query of a write.

    Args:
        is_trusted: the caller has shown a token.
        also: further query parameters that this path takes.
    Raises:
        ConfigError: a query parameter that is unknown or cannot be read: it could have been meant to hold it back.
    """
    known = ["dryRun", "ttl", "guard", *also]
    for name in request.query:
        if name not in known:
            near = nearest(name, known)
            raise _fault(name, f"is not known here{f' (did you mean {near}?)' if near else ''}", name)
    return Order(
        author=request.author,
        cause=cause,
        reason=request.said("x-reason", MAX_REASON_LENGTH),
        if_match=_revisions(request.headers.get("if-match")),
        is_dry_run=flag(request, "dryRun"),
        ttl_s=_duration(request, "ttl"),
        guard_s=_duration(request, "guard"),
        is_trusted=is_trusted,
    )


def flag(request: AdminRequest, name: str) -> bool:
    """Read a query parameter that is true or false; false where it is missing. Raises ConfigError."""
    value = request.query.get(name, "false")
    if value.lower() not in FLAGS:
        raise _fault(name, f'"{printable(value)}" is not true or false', value)
    return FLAGS[value.lower()]


def body_of(request: AdminRequest) -> Any:  # Any: JSON
    """Give the body of a write. Raises MalformedBody where there is none."""
    if request.body is None:
        raise MalformedBody("the body is empty or null; to take something away, send DELETE, or null under its key")
    return request.body


class Answers:
    """Writes what became of changes.

    Args:
        issues: of a configuration.
        running: the settings that the process was started with.
        url: where the admin side answers.
    """

    def __init__(self, issues: Issues, running: Settings, url: Callable[[], str]) -> None:
        self._issues = issues
        self._running = running
        self._url = url

    def curl(self, loaded: Loaded, method: str, path: str) -> str:
        """Write a call of the admin side as a line to paste into a shell, as a configuration wants it."""
        return curl(method, self._url() + path, has_token=_has_token(loaded))

    async def issues(self, loaded: Loaded) -> list[Json]:
        """List the issues of a configuration with what mends them."""
        url, has_token = self._url(), _has_token(loaded)
        return [as_json(issue, url, has_token=has_token) for issue in await self._issues(loaded)]

    def restart_needed(self, loaded: Loaded) -> list[str]:
        """List the settings that take effect at the next start only."""
        return restart_needed(self._running, loaded.settings)

    async def change(self, outcome: Outcome, order: Order, **more: object) -> AdminReply:
        """Answer a write: `{revision, changed, dryRun, diff, issues, restartNeeded, expiresAt, guardUntil}`."""
        body = {
            "revision": outcome.revision,
            "changed": outcome.is_changed,
            "dryRun": order.is_dry_run,
            "diff": list(outcome.diff),
            # that it differs from the file now is what the call was for; /config/issues lists it
            "issues": [issue for issue in await self.issues(outcome.loaded) if issue["kind"] != "drift"],
            "restartNeeded": self.restart_needed(outcome.loaded),
            **ends(outcome.made),
            **more,
        }
        return AdminReply(body, headers=(("ETag", f'"{outcome.revision}"'),))


def _has_token(loaded: Loaded) -> bool:
    return loaded.settings.admin.token is not None


def ends(pending: Sequence[Pending]) -> Json:
    """Tell when changes end by themselves: `{"expiresAt", "guardUntil"}`, RFC 3339 or null."""
    timed = [one.at_s for one in pending if one.baseline is None]
    guarded = [one.at_s for one in pending if one.baseline is not None]
    return {
        "expiresAt": timestamp(timed[-1]) if timed else None,
        "guardUntil": timestamp(guarded[-1]) if guarded else None,
    }


def _fault(name: str, message: str, got: object) -> ConfigError:
    return ConfigError(f"?{name}: {message}", [Fault(f"?{name}", message, got)])


def _duration(request: AdminRequest, name: str) -> float | None:
    value = request.query.get(name)
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise _fault(name, f'"{printable(value)}" is refused: {error}', value) from None


def _revisions(if_match: str | None) -> frozenset[int] | None:
    """Read If-Match (RFC 9110, 13.1.1); a tag that is none of ours matches nothing."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(","))
    return frozenset(int(tag) for tag in tags if tag.isascii() and tag.isdecimal() and len(tag) < 20)
