"""Every module can be the first of ours that an interpreter imports."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from tests.contract.sources import ROOT, Source, read_sources

IMPORT_EACH = """
import importlib, json, os, sys, traceback

modules, foreign = json.load(sys.stdin)
for name in foreign:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # whoever needs it says so below
for name in modules:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            print("cannot import", name, "alone:", flush=True)
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""
"""One interpreter loads the foreign libraries, then forks for each module: alone, at a hundredth of the price."""


def import_failures(modules: list[str], foreign: list[str], root: str) -> str:
    """Try each module in a process that has imported none of ours; what went wrong, with tracebacks."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH],
        input=json.dumps([modules, foreign]),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return result.stdout if result.returncode == 0 else result.stdout + result.stderr


def foreign_imports(sources: list[Source]) -> list[str]:
    names: set[str] = set()
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return sorted(name for name in names if name.partition(".")[0] not in ("proxy", "plugins"))


def test_every_module_imports_alone() -> None:
    sources = read_sources()
    modules = [source.module for source in sources if not source.module.endswith("__main__")]

    failures = import_failures(modules, foreign_imports(sources), str(ROOT))

    assert not failures, failures


def test_checker_finds_a_module_that_needs_another_first(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("from second import B\nA = 1\n")
    (tmp_path / "second.py").write_text("from first import A\nB = 2\n")
    (tmp_path / "third.py").write_text("import json\n")

    failures = import_failures(["third", "first", "second"], ["json"], str(tmp_path))

    assert "cannot import first alone" in failures
    assert "cannot import second alone" in failures
    assert "third" not in failures
