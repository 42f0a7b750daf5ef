"""Virtual keys as such: their text, how they are found, rotated and let expire, and which models they are for."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.keys.book import Book, VirtualKey
from plugins.keys.limits import NAME, allowances
from plugins.keys.patterns import LONGEST_NAME, ModelRule
from plugins.keys.settings import KeySettings
from plugins.keys.text import digest_of, new_id, new_text, shown
from proxy.callers import Allowance
from proxy.redaction import Redactor

NOW_S = 1_000_000.0


def key(text: str, key_id: str = "a", **settings: Any) -> VirtualKey:
    return VirtualKey(key_id, digest_of(text), KeySettings.model_validate({"name": key_id, **settings}), NOW_S)


def test_text_has_256_random_bits_and_its_id() -> None:
    texts = {new_text("0123456789") for _ in range(1000)}

    assert len(texts) == 1000
    assert all(re.fullmatch(r"sk-sw-0123456789-[A-Za-z0-9_-]{43}", text) for text in texts)
    assert re.fullmatch(r"[0-9a-f]{10}", new_id())


def test_what_people_see_holds_nothing_of_the_secret() -> None:
    assert shown("0123456789") == "sk-sw-0123456789-…"


def test_key_that_gets_into_a_log_is_taken_out_by_its_looks() -> None:
    text = new_text(new_id())

    assert text not in Redactor().text(f"wrong key {text} sent")


@given(st.text(max_size=80), st.text(max_size=80))
def test_digest_tells_texts_apart_and_takes_any(one: str, other: str) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)


def test_only_the_whole_text_finds_a_key() -> None:
    text = new_text("a")
    book = Book([key(text)])

    found = [book.find(digest_of(each), NOW_S) for each in (text, text[:-1], f"{text}x", text.upper(), "", "a")]

    assert [each is not None for each in found] == [True, False, False, False, False, False]


def test_rotation_leaves_the_earlier_text_its_grace_and_no_longer() -> None:
    book = Book([key("one")])

    book.put(key("one").rotated(digest_of("two"), 60.0, NOW_S))

    assert [book.find(digest_of(text), NOW_S + 59.9) is not None for text in ("one", "two")] == [True, True]
    assert [book.find(digest_of(text), NOW_S + 60.0) is not None for text in ("one", "two")] == [False, True]


def test_rotation_without_grace_ends_the_earlier_text_at_once() -> None:
    book = Book([key("one")])

    book.put(key("one").rotated(digest_of("two"), 0.0, NOW_S))

    assert book.find(digest_of("one"), NOW_S) is None


def test_second_rotation_ends_the_grace_of_the_first() -> None:
    book = Book([key("one")])

    first = key("one").rotated(digest_of("two"), 600.0, NOW_S)
    book.put(first)
    book.put(first.rotated(digest_of("three"), 600.0, NOW_S))

    assert [book.find(digest_of(text), NOW_S) is not None for text in ("one", "two", "three")] == [False, True, True]


def test_key_that_was_taken_away_is_found_by_no_text() -> None:
    book = Book([key("one").rotated(digest_of("two"), 600.0, NOW_S), key("other", "b")])

    book.remove("a")

    assert [book.find(digest_of(text), NOW_S) is not None for text in ("one", "two", "other")] == [False, False, True]
    assert book.remove("a") is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=40))
def test_book_finds_what_a_plain_list_of_keys_would(steps: list[tuple[str, int, bool]]) -> None:
    book, reference = Book(), {}

    for key_id, text, is_added in steps:
        if is_added:
            one = key(f"{key_id}{text}", key_id)
            book.put(one)
            reference[key_id] = one
        else:
            book.remove(key_id)
            reference.pop(key_id, None)

    assert {each.id: each for each in book} == reference
    for key_id in "abc":
        for text in range(10):
            digest = digest_of(f"{key_id}{text}")
            wanted = next((one for one in reference.values() if one.digest == digest), None)
            assert book.find(digest, NOW_S) == wanted


def test_state_follows_the_switch_and_the_time() -> None:
    expiring = key("one", expiresAt="2026-01-31T14:00:00Z")
    expires_s = expiring.settings.expires_at
    assert expires_s is not None

    assert (expiring.state_at(expires_s - 1), expiring.state_at(expires_s)) == ("active", "expired")
    assert key("one", enabled=False).state_at(NOW_S) == "disabled"


def test_changed_settings_keep_what_was_spent() -> None:
    one = key("one")
    one.account.reserve(5)

    changed = one.with_settings(KeySettings.model_validate({"name": "b", "models": ["x"]}))

    assert changed.account is one.account
    assert (changed.identity.name, changed.rule is None) == ("b", False)


# -- models ----------------------------------------------------------------------------------------------------------


def test_key_may_use_what_fits_one_of_its_patterns() -> None:
    rule = ModelRule(["gpt-4o*", "o?"])

    assert [rule.allows(model) for model in ("gpt-4o-mini", "o3", "gpt-4", "o3-mini", "GPT-4o")] == [
        *(True, True),
        *(False, False, False),
    ]


def test_long_names_fit_nothing() -> None:
    assert not ModelRule(["*"]).allows("a" * (LONGEST_NAME + 1))


# -- limits ----------------------------------------------------------------------------------------------------------


def test_limits_become_allowances() -> None:
    limits = {"requestsPerMinute": 60.0, "outputTokensPerDay": 1e6, "costUsdPerHour": 0.5, "concurrent": 4.0}

    assert allowances(limits) == (
        Allowance("requests", 60.0, 60.0),
        Allowance("outputTokens", 1e6, 86_400.0),
        Allowance("costUsd", 0.5, 3600.0),
        Allowance("concurrent", 4.0, 0.0),
    )


@pytest.mark.parametrize("name", ["requests", "requestsPerWeek", "PerDay", "concurrentPerDay", "requestsPerDay\n", ""])
def test_names_that_say_nothing_are_no_limits(name: str) -> None:
    assert NAME.fullmatch(name) is None
