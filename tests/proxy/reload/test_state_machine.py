"""Any sequence of changes, resets, rollbacks, restarts and edits of the file leaves what a simple model says."""

import asyncio
import os
from typing import Any

import orjson
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.config.patch import is_same
from proxy.testing import ProxyHarness
from tests.proxy.server.test_config_routes import call

SEQUENCES = int(os.environ.get("SWITCHYARD_SEQUENCES", "20"))
"""How many; `scripts/prove` says 1,000."""

DEFAULTS = {"maxQueue": 1000, "maxConcurrency": 100, "queueTimeout": 10, "models": {}, "level": "info"}

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "maxQueue": st.integers(1, 4),
        "maxConcurrency": st.integers(1, 4),
        "queueTimeout": st.sampled_from([5, "5s", "1m"]),
        # one alias: where a mapping is taken away whole, an edit of a part of it brings the file's whole back
        "models": st.fixed_dictionaries({"a": st.sampled_from([["echo/x"], ["echo/y"]])}),
        "debug": st.fixed_dictionaries({"level": st.just("debug")}),
    },
)
WRONG = st.sampled_from([{"maxQueue": -1}, {"maxQueu": 1}, {"models": {"a": ["x/y"]}}, {"debug": {"level": 1}}])


def merged(document: Any, patch: Any) -> Any:
    """RFC 7396, written out a second time."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def keys_of(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The leaves of a document; aliases count as leaves."""
    found: dict[tuple[str, ...], Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            found |= keys_of(item, (*path, key))
        else:
            found[(*path, key)] = item
    return found


class Life(RuleBasedStateMachine):
    """The model: the file's leaves, and the leaves of live changes over it, None where one was taken away."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.proxy = ProxyHarness(has_file=True)
        self.file: dict[tuple[str, ...], Any] = {}
        self.live: dict[tuple[str, ...], Any] = {}
        self.states: dict[int, dict[tuple[str, ...], Any]] = {}
        self.revision = 1
        self.run(self.proxy.start(changes={"watchFile": False}))
        self.remember()

    def run(self, coro: Any) -> Any:
        return self.runner.run(coro)

    def teardown(self) -> None:
        self.run(self.proxy.close())
        self.runner.close()

    @property
    def now(self) -> dict[tuple[str, ...], Any]:
        """The leaves in force."""
        return {key: value for key, value in {**self.file, **self.live}.items() if value is not None}

    def remember(self) -> None:
        self.states[self.revision] = self.now

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.run(call(self.proxy, method, path, body))
        assert answer.status == status, answer.body
        return answer.json()

    def settle(self, wanted: dict[tuple[str, ...], Any], answer: Any) -> None:
        """Take over what is wanted as live changes, and compare the number of the revision."""
        is_new = not is_same(_nested(wanted), _nested(self.now))
        for key in {*wanted, *self.now}:
            if not is_same(wanted.get(key), self.now.get(key)):
                self.live[key] = wanted.get(key)
        self.live = {key: value for key, value in self.live.items() if not is_same(value, self.file.get(key))}
        self.revision = max(self.states) + is_new
        assert (answer["changed"], answer["revision"]) == (is_new, self.revision)
        self.remember()

    # -- what can happen ---------------------------------------------------------------------------------------------

    @rule(patch=VALUES, deleted=st.sampled_from(["maxQueue", "models", "queueTimeout", "debug", None]))
    def patch(self, patch: Any, deleted: str | None) -> None:
        if deleted is not None:
            patch = {**patch, deleted: None}
        wanted = keys_of(merged(_nested(self.now), patch))
        self.settle(wanted, self.ask("PATCH", "/config", patch))

    @rule(document=VALUES)
    def put(self, document: Any) -> None:
        document = {**document, "changes": {"watchFile": False}}
        self.settle(
            keys_of({key: item for key, item in document.items() if key != "changes"}),
            self.ask("PUT", "/config", document),
        )

    @rule(patch=VALUES, wrong=WRONG)
    def wrong(self, patch: Any, wrong: Any) -> None:
        self.ask("PATCH", "/config", {**patch, **wrong}, status=422)

    @rule()
    def reset(self) -> None:
        self.settle(dict(self.file), self.ask("POST", "/reset"))

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.states)))
        self.settle(dict(self.states[number]), self.ask("POST", f"/deployments/{number}/rollback"))

    @rule()
    def back_up_reset_and_restore(self) -> None:
        wanted = self.now
        backup = self.ask("GET", "/config")
        self.settle(dict(self.file), self.ask("POST", "/reset"))
        self.settle(wanted, self.ask("POST", "/config", backup))

    @rule(document=VALUES, how=st.sampled_from(["deploy", "restart"]))
    def edit(self, document: Any, how: str) -> None:
        before, edited = self.now, keys_of(document)
        changed = {key for key in {*self.file, *edited} if not is_same(self.file.get(key), edited.get(key))}
        self.live = {key: value for key, value in self.live.items() if key not in changed}
        self.file = edited
        self.live = {key: value for key, value in self.live.items() if not is_same(value, self.file.get(key))}
        self.proxy.write(changes={"watchFile": False}, **{_snake(key): item for key, item in document.items()})
        if how == "restart":
            self.run(self.proxy.restart())
        else:
            self.ask("POST", "/deployments")
        if changed or not is_same(_nested(before), _nested(self.now)):
            self.revision = max(self.states) + 1
        self.remember()

    @rule(wrong=WRONG)
    def wrong_edit(self, wrong: Any) -> None:
        good = self.proxy.config_path.read_bytes()
        self.proxy.config_path.write_bytes(orjson.dumps({**orjson.loads(good), **wrong}))
        self.ask("POST", "/deployments", status=422)
        self.proxy.config_path.write_bytes(good)

    @rule()
    def restart(self) -> None:
        self.run(self.proxy.restart())

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def what_is_in_force_is_what_the_model_says(self) -> None:
        shown = self.ask("GET", "/config")
        wanted = merged(DEFAULTS, _nested(self.now))
        assert shown["$export"]["revision"] == self.revision
        assert [shown[key] for key in ("maxQueue", "maxConcurrency", "queueTimeout", "models")] == [
            wanted[key] for key in ("maxQueue", "maxConcurrency", "queueTimeout", "models")
        ]
        assert shown["debug"]["level"] == wanted.get("debug", {}).get("level", "info")
        assert self.proxy.app.pipeline.slots.limit == shown["maxConcurrency"]
        assert self.proxy.app.pipeline.generation.revision == self.revision


def _snake(key: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in key)


def _nested(leaves: dict[tuple[str, ...], Any]) -> Any:
    document: dict[str, Any] = {}
    for path, value in leaves.items():
        inner = document
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return document


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=SEQUENCES,
    stateful_step_count=20,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a sequence is short already, and shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)
