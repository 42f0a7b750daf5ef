"""The project's own source files as the contract tests read them."""

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Source:
    """One module: `path` is relative to the root, as messages show it."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """Dotted name; a package is named by its folder."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("/__init__.py")


def parse(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text, path))


def read_sources() -> list[Source]:
    """Every module of the program and its plugins; a folder that is not there yet has none."""
    paths = sorted(path for folder in ("proxy", "plugins") for path in (ROOT / folder).rglob("*.py"))
    return [parse(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]
