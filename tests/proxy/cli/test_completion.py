"""Completions for shells."""

import subprocess

import pytest

from tests.proxy.cli.rig import Run

COMPLETE = """
{script}
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shtab_switchyard
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_script_names_all_verbs_and_needs_no_proxy(cli: Run, shell: str) -> None:
    ended = cli("completion", shell)

    assert ended.code == 0
    for word in ("deployments", "rollback", "deploy", "--restart", "export", "--if-match", "--token", "completion"):
        assert word in ended.output


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("switchyard dep", {"deploy", "deployments"}),
        ("switchyard config e", {"export"}),
        ("switchyard deployments r", {"rollback"}),
        ("switchyard deploy --re", {"--restart", "--reason"}),
        ("switchyard completion z", {"zsh"}),
    ],
)
def test_bash_offers_what_fits(cli: Run, words: str, offered: set[str]) -> None:
    script = cli("completion", "bash").output

    ended = subprocess.run(
        ["bash", "-c", COMPLETE.format(script=script, words=words)], capture_output=True, text=True, timeout=20
    )

    assert set(ended.stdout.split()) == offered, ended.stderr


def test_bash_offers_files_where_a_file_belongs(cli: Run, tmp_path: object) -> None:
    script = cli("completion", "bash").output

    assert "_shtab_switchyard___config_COMPGEN=_shtab_compgen_files" in script
    assert "_shtab_switchyard_config_validate_pos_0_COMPGEN=_shtab_compgen_files" in script


def test_script_is_for_the_program_that_is_named(cli: Run) -> None:
    assert "scripts/run" in cli("completion", "bash", "--program", "scripts/run").output.splitlines()[-1]
