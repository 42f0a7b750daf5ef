"""The lock files name everything that is needed: set-up installs what they list and looks for nothing else."""

import configparser
import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked(name: str) -> dict[str, str]:
    """Versions by name in a lock file."""
    text = (ROOT / name).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))


def wanted(*extras: str) -> list[str]:
    """What setup.cfg asks for."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    lines = [parser["options"]["install_requires"], *(parser["options.extras_require"][extra] for extra in extras)]
    return [line for text in lines for line in text.split("\n") if line.strip()]


def closure(requirements: list[str]) -> Iterator[Requirement]:
    """Every requirement of these, and of what they require, as far as this machine needs it."""
    waiting = [(Requirement(line), "") for line in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        yield requirement
        name = canonicalize_name(requirement.name)
        for asked in {"", *requirement.extras}:
            if (name, asked) not in seen:
                seen.add((name, asked))
                waiting += [(Requirement(line), asked) for line in distribution(name).requires or []]


@pytest.mark.parametrize(("file", "extras"), [("requirements.txt", ()), ("requirements-dev.txt", ("dev",))])
def test_every_library_that_is_needed_is_locked_in_a_version_that_fits(file: str, extras: tuple[str, ...]) -> None:
    versions = locked(file)

    for requirement in closure(wanted(*extras)):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{requirement} is not in {file}: run scripts/lock"
        assert requirement.specifier.contains(versions[name], prereleases=True), f"{requirement} in {file}"


def test_set_up_installs_what_is_locked_and_nothing_else() -> None:
    script = (ROOT / "scripts" / "_venv.sh").read_text("utf-8")

    assert "--no-deps --require-hashes" in script
