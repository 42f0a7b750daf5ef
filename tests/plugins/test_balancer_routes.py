"""Routes: the first whose condition holds chooses among the candidates, and says so on a dry run."""

from collections import Counter
from typing import Any

import pytest

from proxy.exchange import Candidate, Exchange, UploadBody
from tests.plugins.balancer_rig import asked, candidate, candidates_of, make, names

ABC = [candidate("a"), candidate("b", priority=1), candidate("c", priority=2)]


class Upload:
    """A body that is streamed on; nobody reads it here."""

    def __init__(self, length: int | None) -> None:
        self.length = length

    def __aiter__(self) -> Any:
        raise NotImplementedError

    def is_client_gone(self) -> bool:
        return False


def upload_of(length: int | None) -> UploadBody:
    return Upload(length)


def selected(*routes: dict[str, Any], exchange: Exchange, candidates: list[Candidate] = ABC, **section: Any) -> str:
    ordered = make(routes=routes, **section).select_provider(exchange, candidates)
    return "".join(names(ordered))


def noted(exchange: Exchange, candidates: list[Candidate] = ABC, **section: Any) -> Any:
    make(**section).select_provider(exchange, candidates)
    return exchange.notes["balancer"]


HEADERS = {"X-Team": "batch-7", "User-Agent": "curl/8"}


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({}, True),
        ({"model": "*"}, True),
        ({"model": "gpt-*"}, True),
        ({"model": "gpt-?o"}, True),
        ({"model": "gpt-4"}, False),
        ({"model": "GPT-4o"}, False),
        ({"header": {"x-team": "batch*"}}, True),
        ({"header": {"X-TEAM": "batch-?"}}, True),
        ({"header": {"X-Team": "batch"}}, False),
        ({"header": {"X-Team": "*", "User-Agent": "curl/*"}}, True),
        ({"header": {"X-Team": "*", "User-Agent": "python*"}}, False),
        ({"header": {"X-Other": "*"}}, False),
        ({"key": "team-a-key"}, True),
        ({"key": "team-a-ke"}, False),
        ({"key": "team-a-key2"}, False),
        ({"key": "Team-A-Key"}, False),
        ({"key": ""}, False),
        ({"minSize": 100}, True),
        ({"minSize": 101}, False),
        ({"maxSize": 100}, True),
        ({"maxSize": 99}, False),
        ({"minSize": 50, "maxSize": "1KB"}, True),
        ({"maxSize": 0}, False),
        ({"model": "gpt-*", "key": "team-a-key", "header": {"X-Team": "*"}, "minSize": 1}, True),
        ({"model": "gpt-*", "key": "team-b-key", "header": {"X-Team": "*"}, "minSize": 1}, False),
        ({"model": "o*", "key": "team-a-key", "header": {"X-Team": "*"}, "minSize": 1}, False),
    ],
)
def test_condition(when: dict[str, Any], fits: bool) -> None:
    exchange = asked(headers=HEADERS, caller="team-a-key", body=b"x" * 100)

    assert (selected({"when": when, "use": ["c"]}, exchange=exchange) == "c") == fits


@pytest.mark.parametrize("key", ["team-a-key", ""])
def test_caller_without_a_key_has_no_key(key: str) -> None:
    assert selected({"when": {"key": key}, "use": ["c"]}, exchange=asked(caller=None)) == "abc"
    assert selected({"when": {"key": key}, "use": ["c"]}, exchange=asked(caller="")) == "abc"


@pytest.mark.parametrize("caller", ["schlüssel", "\udcff", "k" * 100_000])
def test_caller_may_show_anything(caller: str) -> None:
    assert selected({"when": {"key": "team-a-key"}, "use": ["c"]}, exchange=asked(caller=caller)) == "abc"


@pytest.mark.parametrize(
    ("length", "when", "expected"),
    [
        (100, {"minSize": 100}, "c"),
        (99, {"minSize": 100}, "abc"),
        (None, {"minSize": 1}, "abc"),
        (None, {"maxSize": 100}, "abc"),
        (None, {}, "c"),
    ],
)
def test_size_of_an_upload_is_what_it_declares(length: int | None, when: dict[str, Any], expected: str) -> None:
    exchange = asked(upload=upload_of(length))

    assert selected({"when": when, "use": ["c"]}, exchange=exchange) == expected


def test_path_without_a_model_fits_any_pattern_that_takes_nothing() -> None:
    assert selected({"use": ["c"]}, exchange=asked(model=None)) == "c"
    assert selected({"when": {"model": "g*"}, "use": ["c"]}, exchange=asked(model=None)) == "abc"


def test_any_header_of_the_name_may_fit() -> None:
    exchange = asked()
    exchange.request.headers = [(b"X-Team", b"one"), (b"x-team", b"two")]

    assert selected({"when": {"header": {"X-Team": "two"}}, "use": ["c"]}, exchange=exchange) == "c"


def test_first_route_that_fits_is_taken() -> None:
    routes = ({"when": {"model": "o*"}, "use": ["a"]}, {"when": {"model": "gpt*"}, "use": ["b"]}, {"use": ["c"]})

    assert selected(*routes, exchange=asked()) == "b"
    assert selected(*routes, exchange=asked(model="mistral")) == "c"


@pytest.mark.parametrize(
    ("use", "or_else", "expected"),
    [
        (["c", "a"], False, "ca"),
        (["c"], True, "cab"),
        (["nobody", "b"], False, "b"),
        (["b/gpt-4o", "a/gpt-4o"], False, "ba"),
        (["b/gpt-4", "a"], False, "a"),
        (["a", "a/gpt-4o", "a"], False, "a"),
        (["b", "c", "a"], True, "bca"),
    ],
)
def test_those_of_use_are_asked_in_its_order(use: list[str], or_else: bool, expected: str) -> None:
    assert selected({"use": use, "orElse": or_else}, exchange=asked()) == expected


def test_model_name_with_a_slash_is_told_from_its_provider() -> None:
    candidates = [candidate("a", model="meta/llama"), candidate("b", model="meta/llama")]

    assert selected({"use": ["b/meta/llama"]}, exchange=asked(), candidates=candidates) == "b"


def test_provider_stands_for_all_its_models_of_an_alias() -> None:
    candidates = [
        candidate("a", model="x"),
        candidate("b", model="y", priority=1),
        candidate("a", model="z", priority=2),
    ]

    assert selected({"use": ["a"]}, exchange=asked(), candidates=candidates) == "aa"


def test_strategy_of_a_route_shares_among_those_named_whatever_their_priorities() -> None:
    balancer = make(routes=[{"use": ["b", "c"], "strategy": "round-robin", "orElse": True}])

    orders = ["".join(names(balancer.select_provider(asked(), ABC))) for _ in range(7)]

    assert set(orders[1:]) == {"bca", "cba"}
    assert orders[1:3] == orders[3:5] == orders[5:7]


def test_session_stays_within_a_route_that_has_a_strategy() -> None:
    balancer = make(affinity="header", routes=[{"use": ["b", "c"], "strategy": "random"}])

    firsts = {
        session: {balancer.select_provider(asked(headers={"X-Session-Id": session}), ABC)[0].provider for _ in "x" * 9}
        for session in "abcdefgh"
    }

    assert all(len(first) == 1 for first in firsts.values())
    assert {name for first in firsts.values() for name in first} == {"b", "c"}


def test_route_that_names_no_candidate_is_passed_over() -> None:
    routes = ({"use": ["nobody"]}, {"use": ["b"]})

    assert selected(*routes, exchange=asked()) == "b"
    assert selected(routes[0], exchange=asked()) == "abc"


def test_model_of_its_own_has_its_own_strategy() -> None:
    balancer = make(models={"slow": {"strategy": "round-robin"}})
    pair = candidates_of(9, 1)

    general = Counter(balancer.select_provider(asked(), pair)[0].provider for _ in range(2000))
    turns = [balancer.select_provider(asked(model="slow"), pair)[0].provider for _ in range(11)]

    assert 0.85 < general["a"] / 2000 < 0.95
    assert Counter(turns[1:]) == {"a": 9, "b": 1}


def test_targets_of_an_alias_share_the_work_only_where_priority_is_ignored() -> None:
    balancer = make(
        models={
            "ordered": {"strategy": "round-robin"},
            "shared": {"strategy": "round-robin", "ignorePriority": True},
        }
    )

    ordered = {balancer.select_provider(asked(model="ordered"), ABC)[0].provider for _ in range(9)}
    shared = [balancer.select_provider(asked(model="shared"), ABC)[0].provider for _ in range(10)]

    assert ordered == {"a"}
    assert Counter(shared[1:]) == {"a": 3, "b": 3, "c": 3}


CAVEAT = (
    "affinity is prompt, and a dry run has none: a request with one goes where its session belongs, "
    "which may be any of those that share the work"
)
ROUTES = [{"when": {"model": "o*"}, "use": ["a"]}, {"use": ["nobody"]}, {"when": {"key": "k"}, "use": ["b", "c"]}]


@pytest.mark.parametrize(
    ("exchange", "section", "expected"),
    [
        ({}, {}, {"strategy": "priority", "route": None, "passedOver": [], "affinity": "none", "sticky": False}),
        ({}, {"routes": ROUTES}, {"strategy": "priority", "route": None, "passedOver": [1]}),
        ({"caller": "k"}, {"routes": ROUTES}, {"strategy": "as-listed", "route": 2, "passedOver": [1]}),
        ({}, {"routes": [{"use": ["a"], "strategy": "cost"}]}, {"strategy": "cost", "route": 0}),
        ({}, {"strategy": "latency", "affinity": "header"}, {"strategy": "latency", "sticky": False}),
        (
            {"headers": {"X-Session-Id": "1"}},
            {"affinity": "header"},
            {"strategy": "priority", "affinity": "header", "sticky": True},
        ),
        ({}, {"models": {"gpt-4o": {"strategy": "random"}}}, {"strategy": "random"}),
        (
            {"headers": {"X-Session-Id": "1"}},
            {"affinity": "header", "routes": [{"use": ["a"]}]},
            {"strategy": "as-listed", "affinity": "header", "sticky": False},
        ),
    ],
)
def test_dry_run_notes_what_was_decided(exchange: Any, section: Any, expected: Any) -> None:
    note = noted(asked(is_dry_run=True, **exchange), **section)

    assert {key: note[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("section", "has_caveat"),
    [
        ({"affinity": "prompt"}, True),
        ({"models": {"gpt-4o": {"affinity": "prompt"}}}, True),
        ({"affinity": "prompt", "routes": [{"use": ["a"], "strategy": "cost"}]}, True),
        ({"affinity": "prompt", "routes": [{"use": ["a"]}]}, False),
        ({"affinity": "header"}, False),
        ({}, False),
    ],
)
def test_dry_run_says_that_it_has_no_prompt_to_go_by(section: Any, has_caveat: bool) -> None:
    caveat = noted(asked({"model": "gpt-4o"}, is_dry_run=True), **section)["caveat"]

    assert caveat == (CAVEAT if has_caveat else None)


@pytest.mark.parametrize("caller", ["k", None])
def test_request_gets_no_note(caller: str | None) -> None:
    exchange = asked(caller=caller)

    make(routes=ROUTES, affinity="header").select_provider(exchange, ABC)

    assert exchange.notes == {}
