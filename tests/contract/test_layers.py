"""Who may import whom: the table of STYLE.md, held over all imports, typing-only and nested ones too."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.contract.sources import Source, parse, read_sources

VOCABULARY = (
    *("hookspecs", "plugin", "exchange", "callers", "sink", "usage", "store", "events", "metrics"),
    *("redaction", "values", "patterns", "durable", "errors", "proxy"),
)
"""Each may import only those to its right; `proxy` is the package itself, with `hookimpl`."""

EVERYTHING_BELOW = [
    *("server", "pipeline", "journey", "reload", "host", "upstream", "routing", "providers", "formats", "config"),
    *("shared", "tasks", "logs", "vocabulary"),
]
ALLOWED = {
    "__main__": ["cli", "app", *EVERYTHING_BELOW],
    "cli": ["app", *EVERYTHING_BELOW],
    "app": EVERYTHING_BELOW,
    "testing": ["app", *EVERYTHING_BELOW],
    "server": ["pipeline", "reload", "host", "formats", "config", "tasks", "logs", "vocabulary"],
    "pipeline": [
        "journey",
        "reload",
        "host",
        "providers",
        "upstream",
        "routing",
        "formats",
        "config",
        "tasks",
        "vocabulary",
    ],
    "journey": ["reload", "host", "providers", "upstream", "routing", "formats", "config", "tasks", "vocabulary"],
    "reload": ["pipeline", "host", "providers", "upstream", "routing", "formats", "config", "tasks", "vocabulary"],
    "host": ["providers.base", "config", "tasks", "vocabulary"],
    "upstream": ["providers.base", "config", "tasks", "vocabulary"],
    "routing": ["providers.base", "config", "tasks", "vocabulary"],
    "providers": ["formats", "config", "vocabulary"],
    "shared": ["config", "tasks", "vocabulary"],
    "formats": ["vocabulary"],
    "config": ["vocabulary"],
    "logs": ["config", "vocabulary"],
    "tasks": ["vocabulary"],
}


def layer_of(module: str) -> str:
    """`proxy.host.loader` is in `host`, `plugins.cache.bucket` in `plugins.cache`, `proxy` itself in `proxy`."""
    top, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if top == "plugins":
        return f"plugins.{first}" if first else "plugins"
    return first or top if top == "proxy" else module


def may_import(importer: str, target: str) -> bool:
    """Whether one module of ours may name another; its own layer always may."""
    layer, target_layer = layer_of(importer), layer_of(target)
    if layer == target_layer:
        return True
    if target.partition(".")[0] == "plugins":
        return False
    if layer in VOCABULARY:
        return target_layer in VOCABULARY[VOCABULARY.index(layer) + 1 :]
    allowed = ["vocabulary"] if layer.startswith("plugins") else ALLOWED.get(layer, [])
    return (
        target_layer in allowed
        or target.removeprefix("proxy.") in allowed
        or ("vocabulary" in allowed and target_layer in VOCABULARY)
    )


def imports_of(source: Source, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Line and module of every import of ours, wherever it stands.

    Args:
        source: the importing module.
        modules: all there are; tells `from proxy import errors` (a module) from `from proxy import hookimpl`.
    """
    package = source.module if source.is_package else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{parent}.{base}" if base else parent
            full = [f"{base}.{alias.name}" for alias in node.names]
            names = sorted({name if name in modules else base for name in full})
        else:
            continue
        for name in names:
            if name.partition(".")[0] in ("proxy", "plugins", "tests"):
                yield node.lineno, name


def nested_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and function of every import that waits for a call."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield node.lineno, function.name


def layer_violations(sources: list[Source]) -> list[str]:
    modules = {source.module for source in sources}
    found = []
    for source in sources:
        layer = layer_of(source.module)
        if not layer.startswith("plugins") and layer not in ALLOWED and layer not in VOCABULARY:
            found.append(f"{source.path}:1: belongs to no layer of STYLE.md")
        for line, target in imports_of(source, modules):
            if not may_import(source.module, target):
                found.append(f"{source.path}:{line}: {layer} may not import {target}")
        for line, function in nested_imports(source.tree):
            found.append(f"{source.path}:{line}: import inside {function}")
    return found


def import_circle(sources: list[Source]) -> list[str]:
    """One circle of modules, the first named again at the end; empty if there is none."""
    modules = {source.module for source in sources}
    graph = {
        source.module: {target for _, target in imports_of(source, modules)} - {source.module} for source in sources
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def tree_of(files: dict[str, str]) -> list[Source]:
    return [parse(path, text) for path, text in files.items()]


def test_every_import_stays_in_its_layer() -> None:
    found = layer_violations(read_sources())

    assert not found, "\n".join(found)


def test_modules_import_in_no_circle() -> None:
    circle = import_circle(read_sources())

    assert not circle, " -> ".join(circle)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proxy/__main__.py", "from proxy.cli import main\nfrom proxy.app import build"),
        ("proxy/cli/start.py", "from proxy import app, logs, __version__"),
        ("proxy/app.py", "from proxy.server.data import Data\nimport proxy.upstream.pool"),
        ("proxy/testing.py", "from proxy.app import build"),
        ("proxy/server/data.py", "from proxy import pipeline\nfrom proxy.tasks import spawn\nimport proxy.logs"),
        ("proxy/pipeline.py", "from proxy.reload import swap\nfrom proxy.providers.openai import OpenAI"),
        ("proxy/host/loader.py", "from proxy.host import dispatch\nfrom proxy.providers.base import Provider"),
        ("proxy/routing/retry.py", "from proxy.providers import base\nfrom proxy.tasks import spawn"),
        ("proxy/providers/openai.py", "from proxy.formats import sse\nfrom .base import Provider"),
        ("proxy/config/loader.py", "from proxy import errors, hookspecs\nimport yaml, os.path"),
        ("proxy/hookspecs.py", "from proxy.plugin import Plugin\nfrom proxy.exchange import Exchange"),
        ("proxy/exchange.py", "from . import errors"),
        ("plugins/cache/plugin.py", "from proxy import hookimpl\nfrom plugins.cache.store import Store\nimport orjson"),
        ("plugins/cache.py", "from proxy.plugin import Plugin\nfrom proxy.hookspecs import pre_request"),
    ],
)
def test_checker_accepts(path: str, text: str) -> None:
    others = [f"proxy/{name}.py" for name in ("app", "logs", "pipeline", "errors", "hookspecs")]
    others += ["proxy/host/dispatch.py", "proxy/providers/base.py", "proxy/formats/sse.py"]

    found = layer_violations(tree_of(dict.fromkeys(others, "") | {path: text}))

    assert found == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("proxy/app.py", "import proxy.cli", "app may not import proxy.cli"),
        ("proxy/app.py", "import proxy.testing", "app may not import proxy.testing"),
        ("proxy/cli/start.py", "import proxy.__main__", "cli may not import proxy.__main__"),
        ("proxy/server/data.py", "import proxy.upstream.pool", "server may not import proxy.upstream.pool"),
        ("proxy/server/data.py", "import proxy.providers.base", "server may not import proxy.providers.base"),
        ("proxy/pipeline.py", "import proxy.server.data", "pipeline may not import proxy.server.data"),
        ("proxy/pipeline.py", "import proxy.logs", "pipeline may not import proxy.logs"),
        ("proxy/host/loader.py", "import proxy.routing.retry", "host may not import proxy.routing.retry"),
        ("proxy/host/loader.py", "from proxy.providers import x", "host may not import proxy.providers"),
        ("proxy/upstream/pool.py", "import proxy.providers.openai", "upstream may not import proxy.providers.openai"),
        ("proxy/routing/retry.py", "import proxy.formats", "routing may not import proxy.formats"),
        ("proxy/providers/base.py", "import proxy.tasks", "providers may not import proxy.tasks"),
        ("proxy/formats/sse.py", "import proxy.config", "formats may not import proxy.config"),
        ("proxy/config/loader.py", "import proxy.formats", "config may not import proxy.formats"),
        ("proxy/tasks.py", "import proxy.config", "tasks may not import proxy.config"),
        ("proxy/exchange.py", "from proxy.plugin import Plugin", "exchange may not import proxy.plugin"),
        ("proxy/errors.py", "from proxy import metrics", "errors may not import proxy.metrics"),
        ("proxy/__init__.py", "from proxy.errors import ProxyError", "proxy may not import proxy.errors"),
        ("proxy/metrics.py", "import proxy.config.models", "metrics may not import proxy.config.models"),
        ("proxy/host/loader.py", "import plugins.cache", "host may not import plugins.cache"),
        ("proxy/testing.py", "from plugins import cache", "testing may not import plugins"),
        ("proxy/testing.py", "import tests.tools", "testing may not import tests.tools"),
        ("plugins/cache.py", "import proxy.tasks", "plugins.cache may not import proxy.tasks"),
        ("plugins/cache.py", "import proxy.app", "plugins.cache may not import proxy.app"),
        ("plugins/cache/plugin.py", "from .. import tracing", "plugins.cache may not import plugins"),
        ("plugins/cache/plugin.py", "from plugins.tracing import x", "plugins.cache may not import plugins.tracing"),
        ("proxy/formats/sse.py", "from ..server import data", "formats may not import proxy.server"),
        ("proxy/utils.py", "", "belongs to no layer"),
        ("proxy/app.py", "def f():\n    import json", "proxy/app.py:2: import inside f"),
        ("proxy/app.py", "class A:\n    async def f(self):\n        from a import b", "import inside f"),
        (
            "proxy/config/m.py",
            "if TYPE_CHECKING:\n    from proxy.host import x",
            "m.py:2: config may not import proxy.host",
        ),
        ("proxy/formats/x.py", "def f():\n    import proxy.server", "x.py:2: formats may not import proxy.server"),
    ],
)
def test_checker_finds(path: str, text: str, complaint: str) -> None:
    found = layer_violations(tree_of({"proxy/metrics.py": "", path: text}))

    assert any(complaint in line for line in found), found


def test_checker_finds_a_circle() -> None:
    files = {
        "proxy/host/__init__.py": "",
        "proxy/host/a.py": "from proxy.host import b",
        "proxy/host/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import C",
        "proxy/host/c.py": "def f():\n    import proxy.host.a",
    }

    circle = import_circle(tree_of(files))

    assert set(circle) == {"proxy.host.a", "proxy.host.b", "proxy.host.c"}


def test_checker_accepts_a_chain() -> None:
    files = {
        "proxy/host/__init__.py": "from proxy.host.a import A",
        "proxy/host/a.py": "from proxy.host import b",
        "proxy/host/b.py": "import proxy.host.c",
        "proxy/host/c.py": "",
    }

    circle = import_circle(tree_of(files))

    assert circle == []
