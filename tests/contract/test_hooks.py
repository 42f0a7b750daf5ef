"""Every hook is documented, known to the dispatcher, described in the guide, and exercised by a test."""

import inspect
import re
from collections.abc import Callable

import pytest

from proxy import hookspecs
from proxy.host.hook_rules import PLAIN
from proxy.host.hooks import ARGUMENTS
from tests.contract.sources import ROOT

GUIDE = ROOT / "docs" / "plugins.md"
HOOKS: dict[str, Callable[..., object]] = {
    name: function for name, function in vars(hookspecs).items() if hasattr(function, "proxy_spec")
}


def sections_of(function: Callable[..., object]) -> set[str]:
    return set(re.findall(r"^    (\w+):", inspect.getsource(function).partition('"""')[2], re.MULTILINE))


def guide_rows() -> dict[str, tuple[tuple[str, ...], bool]]:
    """Arguments, and whether it may be asynchronous, of each hook in the guide's table."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*)\| (yes|no) \|", GUIDE.read_text("utf-8"), re.MULTILINE)
    return {name: (tuple(re.findall(r"`(\w+)`", arguments)), plain == "yes") for name, arguments, plain in rows}


def test_dispatcher_knows_every_hook_and_its_arguments() -> None:
    specified = {name: tuple(inspect.signature(function).parameters) for name, function in HOOKS.items()}

    assert specified == ARGUMENTS


@pytest.mark.parametrize("name", HOOKS)
def test_hook_says_when_what_and_what_for(name: str) -> None:
    function = HOOKS[name]
    wanted = {"Called", "Example"}
    if inspect.signature(function).parameters:
        wanted.add("Args")
    if inspect.signature(function).return_annotation is not None:
        wanted.add("Returns")
    if name != "admin_routes":  # its failures end the start, as its Returns says
        wanted.add("Raises")

    assert wanted <= sections_of(function)


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_asynchronous_unless_its_answer_is_used_at_once(name: str) -> None:
    assert inspect.iscoroutinefunction(HOOKS[name]) is (name not in PLAIN)


def test_guide_has_every_hook_with_its_arguments() -> None:
    assert guide_rows() == {name: (arguments, name not in PLAIN) for name, arguments in ARGUMENTS.items()}


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_exercised_by_a_test_of_the_host(name: str) -> None:
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "tests" / "proxy" / "host").glob("test_*.py"))]

    assert any(re.search(rf"(def {name}\(self|\b{name}=)", text) for text in texts)
