"""One run of a verb: its outputs, the proxy it talks to, and what becomes of failures."""

import argparse
import getpass
import io
import sys
from collections.abc import Mapping
from typing import Any

from proxy.cli.address import Address, find_proxy
from proxy.cli.client import Answer, Client
from proxy.cli.commands import module_of
from proxy.cli.exits import INTERRUPTED, REFUSED, UNREACHABLE, USAGE, Failed
from proxy.cli.screen import Screen, shorten, wall_clock_s
from proxy.config.environment import read_environment


class Session:
    """What a verb works with.

    Args:
        screen: where its output goes.
        environ: the process's environment.
    """

    def __init__(self, options: argparse.Namespace, screen: Screen, environ: Mapping[str, str]) -> None:
        self.screen = screen
        self.environ = environ
        self.wants_json: bool = getattr(options, "json", False)
        self._options = options
        self._address: Address | None = None

    def get(self, path: str) -> dict[str, Any]:  # Any: JSON
        """Read something from the proxy.

        Raises:
            Failed: no proxy, or it refused.
        """
        return self._document_of(self._client().ask("GET", path), {})

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> dict[str, Any]:  # Any: JSON
        """Change something; the author and `--reason` go along.

        Args:
            query: entries with None are left out.
            body: JSON, None for none.
        Raises:
            Failed: no proxy, or it refused.
        """
        fields = {**self._authorship(), **(headers or {})}
        given = {name: value for name, value in (query or {}).items() if value is not None}
        answer = self._client().ask(method, path, query=given, headers=fields, body=body)
        return self._document_of(answer, headers or {})

    def _client(self) -> Client:
        self._address = find_proxy(self._options, self.environ)
        return Client(self._address.url, self._address.token)

    def _authorship(self) -> dict[str, str]:
        fields = {}
        try:
            author = getpass.getuser()
        except (KeyError, OSError, ImportError):  # a container's user without a name
            author = ""
        if author and author.isprintable():
            fields["X-Author"] = author
        reason: str | None = getattr(self._options, "reason", None)
        if reason:
            if not reason.isprintable():
                raise Failed("--reason takes one line without control characters", USAGE)
            fields["X-Reason"] = reason
        return fields

    def _document_of(self, answer: Answer, sent: Mapping[str, str]) -> dict[str, Any]:  # Any: JSON
        if not isinstance(answer.document, dict):
            raise Failed("the proxy answers in a form that this program does not know", UNREACHABLE)
        if 200 <= answer.status < 300:
            return answer.document
        if self.wants_json:
            self.screen.json(answer.document)
        raise Failed(self._refusal(answer.status, answer.document, sent), REFUSED)

    def _refusal(self, status: int, problem: dict[str, Any], sent: Mapping[str, str]) -> str:  # Any: JSON
        """Put a refusal into words (RFC 9457)."""
        detail = str(problem.get("detail") or problem.get("title") or f"the proxy answers {status}")
        if status in (401, 403):
            return "\n".join(filter(None, (detail, self._token_hint())))
        if status == 412:
            asked, current = sent.get("If-Match", "").strip('"'), problem.get("revision", "another")
            return f"nothing was changed: the revision is now {current}, not {asked}"
        errors = [error for error in problem.get("errors") or () if isinstance(error, dict)]
        if not errors:
            return detail
        return "\n".join(
            f"{error['path']}: {error.get('message')}" if error.get("path") else str(error.get("message"))
            for error in errors
        )

    def _token_hint(self) -> str:
        address = self._address
        if address is None or address.token is None:
            problem = address.token_problem if address else ""
            return (
                f"{problem}\n" if problem else ""
            ) + "give the admin token by --token or by PROXY_ADMIN_TOKEN in the environment"
        return "the token that was sent came from --token, PROXY_ADMIN_TOKEN, or admin.token of the file, in this order"


def run(options: argparse.Namespace) -> int:
    """Run the verb that the command line names; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    environ = read_environment()
    screen = Screen(sys.stdout, sys.stderr, environ, now_s=wall_clock_s())
    try:
        code: int = module_of(options.verb).run(options, Session(options, screen, environ))
        screen.close()
        return code
    except Failed as failure:
        screen.close()
        screen.error(failure.message)
        return failure.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # of the output: all others have been put into words
        screen.error(f"cannot write: {shorten(error.strerror or str(error))}")
        return REFUSED
