"""A proposal has just the effect that was asked for, and writes down no more than that."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from plugins.debug import DebugConfig
from proxy.config.edits import merging, replacing
from proxy.config.export import show
from proxy.config.loader import Loaded, document_of, validate
from proxy.config.patch import merge
from proxy.config.proposal import Proposer, over_file
from proxy.config.secrets import SecretStore
from proxy.config.standing import Standing

CANARY = "sk-canary-77a3b0e2"
MODELS = {"debug": DebugConfig}
PROPOSER = Proposer({"KEY": CANARY}, lambda document: MODELS)

PROVIDER = st.fixed_dictionaries(
    {"type": st.just("http"), "baseUrl": st.sampled_from(["http://a", "http://b"])},
    optional={
        "apiKey": st.sampled_from(["${KEY}", CANARY, CANARY + "2"]),
        "weight": st.sampled_from([1, 2]),
        "headers": st.dictionaries(st.just("X-Api-Key"), st.sampled_from(["v", CANARY])),
        "timeouts": st.fixed_dictionaries({}, optional={"idle": st.sampled_from(["none", "5s", 60])}),
    },
)
ECHO = st.just({"type": "echo", "models": ["*"], "priority": 100})
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "maxQueue": st.sampled_from([1000, 5]),
        "providers": st.dictionaries(st.sampled_from(["echo", "x", "y"]), PROVIDER | ECHO, max_size=3),
        "server": st.fixed_dictionaries({}, optional={"allowedHosts": st.lists(st.sampled_from("ab"), max_size=2)}),
        "native": st.fixed_dictionaries({}, optional={"defaultModel": st.just("m")}),
        "debug": st.fixed_dictionaries({}, optional={"level": st.sampled_from(["info", "debug"])}),
        "plugins": st.just(["debug"]),
    },
)
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "maxQueue": st.sampled_from([None, 1000, 7]),
        "providers": st.none() | st.dictionaries(st.sampled_from(["echo", "x"]), st.none() | PROVIDER, max_size=2),
        "server": st.none() | st.just({"allowedHosts": None}) | st.just({"allowedHosts": ["c"]}),
        "debug": st.none() | st.just({"level": None}) | st.just({"level": "debug"}),
    },
)


def loaded(raw: Any) -> Loaded:
    return validate(document_of(raw, PROPOSER.environ, source="test"), MODELS)


def standing(raw: Any, store: SecretStore) -> Standing:
    found = loaded(raw)
    return Standing(1, raw, found, show(found, store))


def effect(of: Loaded) -> object:
    return of.settings, of.sections


@given(DOCUMENTS, DOCUMENTS)
def test_replacement_has_the_effect_of_what_replaces(before: Any, wanted: Any) -> None:
    store = SecretStore()

    proposal = PROPOSER.edit(standing(before, store), store, replacing((), wanted), is_trusted=True)

    assert effect(proposal.loaded) == effect(loaded(wanted))


@given(DOCUMENTS, DOCUMENTS)
def test_export_sent_back_has_the_same_effect_over_any_file(before: Any, after: Any) -> None:
    store = SecretStore()
    exported = standing(before, store).shown

    proposal = PROPOSER.edit(standing(after, store), store, replacing((), exported), is_trusted=True)

    assert effect(proposal.loaded) == effect(loaded(before))
    assert CANARY not in str(exported)
    assert CANARY not in str(proposal.shown)


@given(DOCUMENTS)
def test_export_sent_back_at_once_changes_nothing(before: Any) -> None:
    store = SecretStore()
    now = standing(before, store)

    proposal = PROPOSER.edit(now, store, replacing((), now.shown), is_trusted=True)

    assert (proposal.is_change, proposal.diff) == (False, ())


@given(DOCUMENTS, PATCHES)
def test_merge_has_the_effect_of_merging_into_what_is_shown(before: Any, patch: Any) -> None:
    store = SecretStore()
    now = standing(before, store)
    has_types = all("type" in each for each in (merge(now.shown, patch).get("providers") or {}).values())

    proposal = PROPOSER.edit(now, store, merging((), patch), is_trusted=True)

    assert has_types
    unfolded = {**before, "providers": now.shown["providers"]} if "providers" not in before else before
    assert effect(proposal.loaded) == effect(loaded(_with_secrets(merge(_with_secrets(unfolded, store), patch), store)))


def _with_secrets(document: Any, store: SecretStore) -> Any:
    """Secrets in the places of their ids."""
    if isinstance(document, dict):
        if document.keys() == {"$secret"}:
            return store.text_of(document["$secret"])
        return {key: _with_secrets(value, store) for key, value in document.items()}
    return document


def test_defaults_are_not_written_down() -> None:
    store = SecretStore()

    proposal = PROPOSER.edit(standing({}, store), store, merging((), {"maxQueue": 5}), is_trusted=True)

    assert proposal.loaded.document.raw == {"maxQueue": 5}


def test_default_mapping_is_written_down_whole_where_a_part_of_it_changes() -> None:
    store = SecretStore()
    patch = {"providers": {"x": {"type": "http", "baseUrl": "http://a"}}}

    proposal = PROPOSER.edit(standing({"maxQueue": 5}, store), store, merging((), patch), is_trusted=True)

    assert list(proposal.loaded.document.raw["providers"]) == ["echo", "x"]
    assert proposal.loaded.document.raw.keys() == {"maxQueue", "providers"}


def test_file_goes_before_live_changes_only_where_it_was_edited() -> None:
    base, live = {"a": 1, "b": {"x": 1, "y": 1}}, {"a": 2, "b": {"x": 2, "y": 1}, "c": 3}

    assert over_file(base, live, {"a": 1, "b": {"x": 5, "y": 6}}) == {"a": 2, "b": {"x": 5, "y": 6}, "c": 3}
    assert over_file(base, live, base) == live
    assert over_file(base, base, {"z": 1}) == {"z": 1}
