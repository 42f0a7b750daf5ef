"""A test that lacks a Debian tool is skipped with its reason on a desk, and fails on CI."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IN_A_TEST = """
from tests.tools import require_tool

def test_load():
    require_tool("no-such-tool")
"""
IN_A_MODULE = """
from tests.tools import require_tool

require_tool("no-such-tool")

def test_load():
    pass
"""
ANOTHER_SKIP = """
import pytest

def test_load():
    pytest.skip("not on Mondays")
"""


def run_pytest(folder: Path, source: str, *, no_skips: bool) -> subprocess.CompletedProcess[str]:
    (folder / "test_made_up.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "tests.conftest", "-p", "no:cacheprovider", "test_made_up.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "SWITCHYARD_NO_SKIPS": "1" if no_skips else ""},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_missing_tool_skips_with_its_reason(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, IN_A_TEST, no_skips=False)

    assert result.returncode == 0
    assert "needs debian: no-such-tool" in result.stdout


@pytest.mark.parametrize("source", [IN_A_TEST, IN_A_MODULE])
def test_missing_tool_fails_on_ci(tmp_path: Path, source: str) -> None:
    result = run_pytest(tmp_path, source, no_skips=True)

    assert result.returncode != 0
    assert "needs debian: no-such-tool" in result.stdout


def test_other_skips_stay_skips_on_ci(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, ANOTHER_SKIP, no_skips=True)

    assert result.returncode == 0
