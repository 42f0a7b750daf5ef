"""`scripts/run` from another folder: files stay the caller's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.proxy.cli.rig import ROOT

PYTHON = '#!/bin/sh\nshift 2\nprintf "%s\\n" "$@"\n'
"""In the place of the environment's Python: prints the arguments that `python -m proxy` would get."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("run", "_venv.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    for lock in (tmp_path / "requirements.txt", tmp_path / ".venv" / "requirements.lock"):
        lock.write_text("")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "my file.yaml").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["--config", "my file.yaml"], ["--config", "{here}/my file.yaml"]),
        (["--config=none.yaml", "deploy"], ["--config=none.yaml", "deploy"]),
        (["config", "validate", "--json", "my file.yaml"], ["config", "validate", "--json", "{here}/my file.yaml"]),
        (["config", "validate", "conf/proxy.yaml"], ["config", "validate", "conf/proxy.yaml"]),
        (["config", "export", "--output", "new.yaml"], ["config", "export", "--output", "{here}/new.yaml"]),
        (["config", "export", "--output=/new.yaml"], ["config", "export", "--output=/new.yaml"]),
        (["config", "export", "--output=new.yaml"], ["config", "export", "--output={here}/new.yaml"]),
        (["config", "set", "a=my file.yaml", "my file.yaml"], ["config", "set", "a=my file.yaml", "my file.yaml"]),
    ],
)
def test_files_are_the_callers(project: Path, words: list[str], given: list[str]) -> None:
    here = project / "here"

    ended = subprocess.run([project / "scripts" / "run", *words], cwd=here, capture_output=True, text=True, timeout=20)

    assert ended.stdout.splitlines() == [word.format(here=here) for word in given], ended.stderr


def test_in_the_root_nothing_is_changed(project: Path) -> None:
    ended = subprocess.run(
        ["scripts/run", "config", "export", "--output", "x"], cwd=project, capture_output=True, text=True, timeout=20
    )

    assert ended.stdout.split() == ["config", "export", "--output", "x"]
