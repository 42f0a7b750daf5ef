"""Affinity by prompt: all turns of one conversation are one session, in every format; others are others."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.balancer.sessions import session_of_prompt
from proxy.exchange import JsonObject
from tests.plugins.balancer_rig import asked, candidates_of, make, names

Turns = list[tuple[str, str]]
"""What the client said and what was answered."""


def session(document: JsonObject | None, model: str | None = "gpt-4o") -> bytes | None:
    return session_of_prompt(asked(document, model=model).request)


def spoken(turns: Turns, question: str, answerer: str) -> list[tuple[str, str]]:
    said = [each for asks, answers in turns for each in (("user", asks), (answerer, answers))]
    return [*said, ("user", question)]


def openai(system: str, turns: Turns, question: str) -> JsonObject:
    messages = [{"role": role, "content": text} for role, text in spoken(turns, question, "assistant")]
    tools = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
    return {"model": "m", "messages": [{"role": "system", "content": system}, *messages], "tools": tools}


def responses(system: str, turns: Turns, question: str) -> JsonObject:
    said = spoken(turns, question, "assistant")
    items: list[JsonObject] = []
    for role, text in said:
        kind = "input_text" if role == "user" else "output_text"
        items.append({"type": "message", "role": role, "content": [{"type": kind, "text": text}]})
        if role == "user" and turns:
            items.append({"type": "reasoning", "summary": []})
    return {"model": "m", "instructions": system, "input": question if not turns else items}


def anthropic(system: str, turns: Turns, question: str) -> JsonObject:
    """The mark of the cache moves to the last message, and turns its text into a part."""
    messages: list[JsonObject] = [
        {"role": role, "content": text} for role, text in spoken(turns, question, "assistant")
    ]
    marked = {"type": "text", "text": messages[-1]["content"], "cache_control": {"type": "ephemeral"}}
    messages[-1]["content"] = [marked]
    system_parts = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
    return {"system": system_parts, "messages": messages, "tools": [{"name": "search", "input_schema": {}}]}


def gemini(system: str, turns: Turns, question: str) -> JsonObject:
    contents = [{"role": role, "parts": [{"text": text}]} for role, text in spoken(turns, question, "model")]
    tools = [{"functionDeclarations": [{"name": "search"}]}]
    return {"systemInstruction": {"parts": [{"text": system}]}, "contents": contents, "tools": tools}


def ollama(system: str, turns: Turns, question: str) -> JsonObject:
    said = spoken(turns, question, "assistant")
    return {"messages": [{"role": role, "content": text} for role, text in [("system", system), *said]]}


def native(system: str, turns: Turns, question: str) -> JsonObject:
    if not turns:
        return {"system": system, "prompt": question}
    said = spoken(turns, question, "assistant")
    return {"system": system, "messages": [{"role": role, "content": text} for role, text in said]}


FORMATS = [openai, responses, anthropic, gemini, ollama, native]
Write = Callable[[str, Turns, str], JsonObject]
TEXT = st.text(min_size=1, max_size=30) | st.integers(1, 9).map(lambda number: f"{number}" * 3000)


@pytest.mark.parametrize("write", FORMATS)
@given(TEXT, st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_all_turns_of_a_conversation_are_one_session(write: Write, system: str, turns: Turns) -> None:
    sessions = {session(write(system, turns[:count], turns[count][0])) for count in range(len(turns))}

    assert len(sessions) == 1
    assert None not in sessions


@pytest.mark.parametrize("write", FORMATS)
@given(TEXT, TEXT, TEXT, TEXT)
def test_other_beginnings_are_other_sessions(write: Write, system: str, other: str, asks: str, others: str) -> None:
    first = session(write(system, [], asks))

    assert (session(write(other, [], asks)) == first) == (other == system)
    assert (session(write(system, [], others)) == first) == (others == asks)
    assert session(write(system, [], asks), model="another") != first


def test_all_messages_before_the_first_answer_count() -> None:
    def ask(*texts: str) -> JsonObject:
        return {"messages": [{"role": "user", "content": text} for text in texts]}

    assert session(ask("the same context", "one")) != session(ask("the same context", "two"))


def test_other_tools_are_another_session() -> None:
    document = openai("s", [], "q")
    other = {**document, "tools": [{"type": "function", "function": {"name": "fetch"}}]}

    assert session(document) != session(other)


@pytest.mark.parametrize("change", ["head", "middle", "tail", "length"])
def test_long_text_is_known_by_head_tail_and_length(change: str) -> None:
    text = "a" * 100_000
    changed = {
        "head": "b" + text[1:],
        "middle": text[:50_000] + "b" + text[50_001:],
        "tail": text[:-1] + "b",
        "length": text + "a",
    }[change]

    is_same = session(openai("s", [], text)) == session(openai("s", [], changed))

    assert is_same == (change == "middle")


def test_pictures_count() -> None:
    def ask(data: str) -> JsonObject:
        parts = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        ]
        return {"messages": [{"role": "user", "content": parts}]}

    assert session(ask("AAAA")) != session(ask("BBBB"))


@pytest.mark.parametrize(
    "name", [{"prompt_cache_key": "c-1"}, {"conversation": "c-1"}, {"conversation": {"id": "c-1"}}]
)
def test_name_that_the_client_gives_goes_before_the_beginning(name: JsonObject) -> None:
    assert session({**openai("s", [], "one"), **name}) == session({**responses("t", [], "two"), **name})


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"model": "m"},
        {"messages": []},
        {"messages": {"role": 1}},
        {"input": [[1, 2], [3]]},
        {"messages": [{"role": "assistant", "content": "hello"}]},
        {"tools": [None, {"function": 3}, {"name": {}}], "system": 5, "contents": [None, 1, [], {}]},
    ],
)
def test_request_without_a_beginning_has_no_session(document: Any) -> None:
    assert session(document) is None
    ordered = make(strategy="round-robin", affinity="prompt").select_provider(asked(document), candidates_of(1, 1))
    assert sorted(names(ordered)) == ["a", "b"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "type", "text", "content", "parts", "function", "name", "x"]), inner)
    ),
    max_leaves=20,
)
KEYS = st.sampled_from(["system", "instructions", "tools", "messages", "input", "contents", "prompt", "conversation"])


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_whatever_a_client_sends_is_read(document: JsonObject) -> None:
    assert session(document) == session(document)


class Trap(dict[str, Any]):
    """A message that nobody may look into."""

    def get(self, *_: Any) -> Any:
        raise AssertionError("looked at what does not count")

    __contains__ = __getitem__ = get  # type: ignore[assignment]  # all ways in


def test_nothing_behind_the_first_answer_is_looked_at() -> None:
    document = openai("s", [("one", "answer")], "two")
    document["messages"][3:] = [Trap(), Trap()]

    assert session_of_prompt(asked(document).request) is not None


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [{"role": "user", "content": [{}] * 500 + [Trap()]}]},
        {"messages": [{"role": "user", "content": "x" * 2000}] * 20 + [Trap()]},
        {"messages": [{"role": "user", "content": [[[[]] * 9] * 9] * 9}, Trap()]},
        {"messages": [{"role": "user", "content": {"text": ["x" * 2000] * 20, "input_audio": Trap()}}]},
        {"system": [{"type": "text"}] * 500 + [Trap()], "prompt": "p"},
        {"tools": [{"function": {"name": "n"}}] * 500 + [Trap()], "prompt": "p"},
        {"tools": [{"functionDeclarations": [{}] * 500 + [Trap()]}], "prompt": "p"},
    ],
)
def test_no_more_than_a_bounded_part_is_looked_at(document: JsonObject) -> None:
    session_of_prompt(asked(document).request)


def test_deep_nesting_is_not_followed() -> None:
    deep: Any = "text"
    for _ in range(5000):
        deep = [deep]

    assert session_of_prompt(asked({"input": deep, "tools": deep}).request) is None
