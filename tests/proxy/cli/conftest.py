"""The command line in the test's own process, in an empty folder and without an environment that steers it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.__main__ import main
from tests.proxy.cli.rig import Ended, Run, ScriptedProxy


@pytest.fixture
def scripted() -> Iterator[ScriptedProxy]:
    with ScriptedProxy() as proxy:
        yield proxy


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`python -m proxy` with these arguments."""
    monkeypatch.chdir(tmp_path)
    for name in ("SWITCHYARD_URL", "PROXY_ADMIN_TOKEN", "PROXY_STATE_DIR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        written = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, written.out, written.err)

    return run


@pytest.fixture
def ask(cli: Run, scripted: ScriptedProxy) -> Run:
    """The same, with `--url` of the scripted proxy before the rest."""
    return lambda *arguments: cli("--url", scripted.url, *arguments)
