"""Plugins are found by name, and everything wrong with one is said before any is made (E7 of the fault list)."""

import importlib
from collections.abc import Callable

import pytest

from proxy.errors import ConfigError, Fault
from proxy.host.loader import config_models, load
from proxy.plugin import PluginConfig

GOOD = """
from proxy import hookimpl
from proxy.plugin import Plugin, PluginConfig

class GoodConfig(PluginConfig):
    limit: int = 3

class GoodPlugin(Plugin[GoodConfig]):
    name = "very_good"

    @hookimpl
    def pre_request(self, exchange): ...
"""


Write = Callable[[str, str], None]


def faults_of(*names: str) -> list[Fault]:
    with pytest.raises(ConfigError) as refused:
        load(names)
    return list(refused.value.faults)


def test_built_in_plugins_are_found_by_name() -> None:
    loaded = load(["debug", "keys", "balancer", "metrics"])

    assert [(each.name, each.section, each.path) for each in loaded] == [
        ("debug", "debug", "plugins[0]"),
        ("keys", "keys", "plugins[1]"),
        ("balancer", "balancer", "plugins[2]"),
        ("metrics", "metrics", "plugins[3]"),
    ]


@pytest.mark.parametrize(("path", "name"), [("hello_one.py", "hello_one"), ("my_plugins/hello.py", "my_plugins.hello")])
def test_own_file_is_found_by_module_name(write: Write, path: str, name: str) -> None:
    write(path, GOOD)

    loaded = load([name])

    assert (loaded[0].name, loaded[0].section) == ("very_good", "veryGood")
    assert config_models(loaded)["veryGood"]().limit == 3  # type: ignore[attr-defined]  # GoodConfig
    assert issubclass(loaded[0].config_model, PluginConfig)


def test_entry_point_is_found_by_name(write: Write) -> None:
    write("third_party.py", GOOD)
    write("third_party-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: third_party\nVersion: 1.0\n")
    write(
        "third_party-1.0.dist-info/entry_points.txt",
        "[proxy.plugins]\nthird = third_party\nclassy = third_party:GoodPlugin\nodd = third_party:GoodConfig\n",
    )
    importlib.invalidate_caches()

    assert load(["third"])[0].name == "very_good"
    assert load(["classy"])[0].name == "very_good"
    assert "neither a module nor a Plugin class" in faults_of("odd")[0].message


def test_all_faults_are_listed_with_their_places() -> None:
    faults = faults_of("debug", "no_such", "balancer", "debug", "nowhere.at.all")

    assert [fault.path for fault in faults] == ["plugins[1]", "plugins[3]", "plugins[4]"]
    assert "no plugin no_such" in faults[0].message
    assert "already, at plugins[0]" in faults[1].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = (", "SyntaxError"),
        ("x = 1", "holds no subclass of proxy.plugin.Plugin"),
        ("from plugins.balancer.plugin import BalancerPlugin", "holds no subclass"),
        (GOOD + "class Second(GoodPlugin):\n    name = 'second'\n", "GoodPlugin and Second: one file, one plugin"),
        (GOOD.replace('name = "very_good"', ""), "needs a name in snake_case"),
        (GOOD.replace("very_good", "Very-Good"), "needs a name in snake_case"),
        (GOOD.replace("very_good", "enable_fallback_providers"), "enableFallbackProviders is a key of the core"),
        (GOOD.replace("very_good", "balancer"), "its name balancer is that of plugins[0]"),
        (
            GOOD.replace("Plugin[GoodConfig]", "Plugin"),
            "does not name its settings: class GoodPlugin(Plugin[GoodConfig])",
        ),
        (GOOD.replace("int = 3", "int"), "GoodConfig needs a valid default for every setting: limit"),
        (GOOD + "    on_failure = 'maybe'\n", 'is "open" or "closed"'),
        (GOOD.replace("pre_request", "pre_requst"), "there is no hook pre_requst; the nearest is pre_request"),
        (GOOD.replace("exchange", "exchnge"), "{'exchnge'} are declared in the hookimpl"),
        (GOOD.replace("@hookimpl", ""), "pre_request lacks @hookimpl"),
        (GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)").replace("...", "yield"), "is a hook wrapper"),
        (GOOD.replace("...", "yield"), "contains a yield"),
        (GOOD.replace("def pre_request", "async def select_provider"), "select_provider is asynchronous"),
        (GOOD.replace("def pre_request", "async def stream_filter"), "stream_filter is asynchronous"),
    ],
)
def test_unusable_file_is_refused_with_the_reason(write: Write, text: str, message: str) -> None:
    write("unusable.py", text)

    (fault,) = faults_of("balancer", "unusable")

    assert fault.path == "plugins[1]"
    assert message in fault.message
