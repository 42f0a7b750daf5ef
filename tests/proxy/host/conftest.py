"""Modules that exist for one test."""

import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[str, str], None], None, None]:
    """Write a file into a folder on Python's path; what was imported from there is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def write_file(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    yield write_file
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in repr(module):
            del sys.modules[name]
