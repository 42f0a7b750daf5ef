"""A real server on loopback that answers as it is told, and ways to run the command line against it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Request:
    """What the server was asked; header names in lower case, values as bytes on the wire read as UTF-8."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Ended:
    """A command that has run."""

    code: int
    output: str
    errors: str


Run = Callable[..., Ended]


@dataclass
class ScriptedProxy:
    """Stands for a running proxy: answers by method and path, and remembers what it was asked."""

    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                scripted.answer(self)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def on(self, method: str, path: str, document: Any, status: int = 200) -> None:
        """Answer a path; bytes are sent as they are."""
        self.answers[method, path] = (status, document)

    def problem(self, method: str, path: str, status: int, **members: Any) -> None:
        self.on(method, path, {"type": "about:blank", "title": "no", "status": status, **members}, status)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value.encode("latin-1").decode() for name, value in handler.headers.items()}
        self.requests.append(
            Request(
                handler.command,
                parts.path,
                dict(parse_qsl(parts.query)),
                headers,
                json.loads(body) if body else None,
            )
        )
        status, document = self.answers.get((handler.command, parts.path), (404, {"detail": f"no {parts.path}"}))
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        handler.send_response(status)
        if 300 <= status < 400:
            handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what steers the command line."""
    steering = ("SWITCHYARD_URL", "PROXY_ADMIN_TOKEN", "PROXY_STATE_DIR", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in steering}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxy", *arguments]


def run_process(*arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> Ended:
    """Run `python -m proxy` as a process of its own, its outputs being pipes."""
    ended = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=clean_environment(**(environment or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_on_terminal(*arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    """Run it with a terminal as its output."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=clean_environment(**(environment or {})),
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(slave)
    data = b""
    try:
        while piece := os.read(master, 1 << 16):
            data += piece
    except OSError:  # Linux: nobody has the other side open any more
        pass
    finally:
        os.close(master)
    _, errors = process.communicate(timeout=20)
    return Ended(process.returncode, data.decode().replace("\r\n", "\n"), errors)
