"""Guessing tokens: near enough for text of any script, blind to what is no text, and bounded in time."""

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.rate_limit.estimate import IMAGE_TOKENS, MOST_MODELS, Estimator, Form, tokens_of_request, tokens_of_text

STREAM = Form("openai", True)

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("abcd" * 10, 10),
        ("東京都", 3),
        ("привет мир", 4.75),
        ("é" * 4, 2),
        ("🙂", 2),
        ("ab東🙂", 3.5),
    ],
)
def test_text_of_any_script_is_guessed_by_its_characters(text: str, tokens: float) -> None:
    assert tokens_of_text(text) == tokens


def test_all_formats_are_read_for_their_text() -> None:
    prompt = "word " * 100
    documents = [
        {"model": "m", "messages": [{"role": "user", "content": prompt}]},
        {"model": "m", "system": "", "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}]},
        {"contents": [{"role": "user", "parts": [{"text": prompt}]}]},
        {"model": "m", "prompt": prompt, "stream": True},
        {"model": "m", "input": [prompt]},
    ]

    assert [tokens_of_request(each, 0) for each in documents] == [pytest.approx(140, abs=15)] * len(documents)


def test_pictures_are_not_taken_for_text() -> None:
    picture = "A" * 1_000_000
    openai = {"messages": [{"content": [{"image_url": {"url": f"data:image/png;base64,{picture}"}}]}]}
    anthropic = {"messages": [{"content": [{"type": "image", "source": {"type": "base64", "data": picture}}]}]}
    ollama = {"messages": [{"content": "hi", "images": [picture, picture]}]}

    assert tokens_of_request(openai, 0) < IMAGE_TOKENS + 50
    assert tokens_of_request(anthropic, 0) < IMAGE_TOKENS + 50
    assert 2 * IMAGE_TOKENS < tokens_of_request(ollama, 0) < 2 * IMAGE_TOKENS + 50


@settings(max_examples=50)
@given(document=st.dictionaries(st.text(), JSON))
def test_any_json_is_guessed(document: dict[str, object]) -> None:
    assert tokens_of_request(document, 10) >= 0


def test_huge_requests_take_no_longer_than_what_is_looked_at() -> None:
    document = {"messages": [{"content": "x"} for _ in range(300_000)]}
    began_s = process_time()

    tokens = tokens_of_request(document, 6_000_000)

    assert tokens == 1_500_000
    assert process_time() - began_s < 0.2


def test_models_are_bounded_in_number() -> None:
    estimator = Estimator()

    for number in range(MOST_MODELS + 100):
        estimator.learn_input(f"m{number}", 10, 20)

    assert len(estimator._habits) == MOST_MODELS


def test_one_absurd_answer_does_not_spoil_the_guess() -> None:
    estimator = Estimator()

    for _ in range(20):
        estimator.learn_input("m", 100, 100)
    estimator.learn_input("m", 1, 10**9)

    assert estimator.input_tokens("m", 100) < 200


def test_first_answer_replaces_what_was_guessed() -> None:
    estimator = Estimator()

    estimator.learn_input("m", 100, 150)
    estimator.learn_output("m", 1000, 230_000, STREAM)

    assert estimator.input_tokens("m", 100) == 150
    assert estimator.output_tokens("m", None) == 1000
    assert estimator.least_output("m", STREAM, 23_000) == estimator.output_of_bytes("m", 23_000, STREAM) == 100


def test_size_of_answers_in_one_form_says_nothing_of_another() -> None:
    estimator = Estimator()

    for _ in range(100):
        estimator.learn_output("m", 1000, 24_000, Form("native", True))

    assert estimator.least_output("m", STREAM, 26_000) == 100
    assert estimator.least_output("m", Form("native", True), 2_400) == 100


def test_several_answers_are_reserved_for() -> None:
    assert Estimator().output_tokens("m", 100, 3) == 300
