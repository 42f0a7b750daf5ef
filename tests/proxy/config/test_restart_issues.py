"""What takes effect only at the next start is found, and putting the running value back mends it."""

from pydantic import Field

from proxy.config.issues import find_issues, restart_needed
from proxy.config.models import BUILT_IN_PLUGINS, Settings
from proxy.config.patch import merge
from proxy.plugin import PluginConfig
from tests.proxy.config.issue_facts import WITHOUT_BALANCER, Raw, facts, kinds, loaded, remote


def test_weights_without_the_balancer_loaded_are_mended_at_the_next_start() -> None:
    raw = {"providers": {"a": remote(weight=2), "b": remote()}, "plugins": ["metrics"]}
    before = facts(raw, plugins=["metrics"], sections=WITHOUT_BALANCER)

    (found,) = find_issues(before)
    patched = merge(raw, found.patch)
    at_once = facts(patched, plugins=["metrics"], sections=WITHOUT_BALANCER, running=before.running)
    after_restart = facts(patched, plugins=["metrics", "balancer"])

    assert (found.kind, found.path) == ("weight_without_balancer", "plugins")
    assert "next start" in found.why
    assert ("weight_without_balancer", "plugins") not in kinds(find_issues(at_once))
    assert find_issues(after_restart) == []


def test_plugin_that_is_listed_and_not_loaded_waits_for_a_restart() -> None:
    started = loaded({}).settings
    raw = {"plugins": [*BUILT_IN_PLUGINS, "unheard", "my.package.plugin"]}

    found = find_issues(facts(raw, running=started))

    assert kinds(found) == [
        ("restart_needed", "plugins"),
        ("plugin_not_loaded", f"plugins.{len(BUILT_IN_PLUGINS)}"),
        ("plugin_not_loaded", f"plugins.{len(BUILT_IN_PLUGINS) + 1}"),
    ]
    assert found[1].message == '"unheard" is listed and not loaded'
    assert {issue.command for issue in found[1:]} == {"python -m proxy deploy --restart"}


def test_plugin_of_ones_own_that_was_listed_at_the_start_is_loaded_whatever_its_name() -> None:
    raw = {"plugins": [*BUILT_IN_PLUGINS, "my.package", "two-words"]}

    assert find_issues(facts(raw, plugins=[*BUILT_IN_PLUGINS, "output_cap", "two_words"])) == []


def test_plugin_that_is_no_longer_listed_runs_until_the_restart() -> None:
    started = loaded({"plugins": [*BUILT_IN_PLUGINS, "my.package"]}).settings
    raw = {"plugins": [name for name in BUILT_IN_PLUGINS if name != "balancer"]}

    found = find_issues(facts(raw, running=started, plugins=[*BUILT_IN_PLUGINS, "output_cap"]))

    unlisted = [issue for issue in found if issue.kind == "plugin_unlisted"]
    assert {issue.message.split()[0] for issue in unlisted} == {'"my.package"', '"balancer"'}


def test_settings_that_need_a_restart_are_listed() -> None:
    started = loaded({}).settings
    wanted = loaded({"server": {"port": 81, "host": "localhost", "maxConnections": 5}, "maxQueue": 3}).settings

    assert restart_needed(started, wanted) == ["server.host", "server.port"]
    assert restart_needed(wanted, wanted) == []


def test_marked_setting_is_found_in_each_of_many() -> None:
    class Inner(PluginConfig):
        workers: int = Field(1, description="Workers.", json_schema_extra={"live": False})

    class Wider(Settings):
        pools: dict[str, Inner] = Field(default_factory=dict, description="Pools.")

    started = Wider(pools={"a": Inner(), "b.c": Inner(), "gone": Inner()})
    wanted = Wider(pools={"a": Inner(), "b.c": Inner(workers=2), "new": Inner(workers=3)})

    assert restart_needed(started, wanted) == ["pools.b.c.workers"]


def test_restart_issue_shows_both_values_and_puts_the_running_one_back() -> None:
    started = loaded({"plugins": ["debug"]}).settings
    raw: Raw = {"server": {"port": 81}, "plugins": ["debug", "metrics"], "state": {"dir": "var2"}}

    found = [issue for issue in find_issues(facts(raw, running=started)) if issue.kind == "restart_needed"]

    assert [(issue.path, issue.message) for issue in found] == [
        ("plugins", "[debug, metrics] is configured, [debug] is running"),
        ("server.port", "81 is configured, 8080 is running"),
        ("state.dir", '"var2" is configured, "var" is running'),
    ]
    for issue in found:
        raw = merge(raw, issue.patch)
    assert restart_needed(started, loaded(raw).settings) == []
