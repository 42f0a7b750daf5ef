"""Every part of a request makes another question; only the manner, spelling and what is ignored do not (F11)."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plugins.cache.question import Questions
from proxy.exchange import Candidate
from proxy.testing import FakeProvider, ProxyHarness
from tests.plugins.cache.asking import TARGETS, exchange_of, parts_of, question_of, questions
from tests.plugins.cache.rig import CALLS, CHAT, STREAMED, WHOLE, Crowd, ask, begin, change, said, until, until_idle

TOOL = {"name": "weather", "description": "Tells the weather.", "parameters": {"type": "object", "required": ["city"]}}
RICH: dict[str, dict[str, Any]] = {
    "openai": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "detail": "low"}],
            },
        ],
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "temperature": 0.5,
        "seed": 7,
        "n": 1,
        "stop": ["\n", "END"],
        "max_tokens": 10,
        "logit_bias": {"50256": -100},
        "user": "u-1",
        "metadata": {"team": "a"},
        "x_unknown": {"deep": [1, {"er": None}]},
    },
    "completions": {"prompt": ["a", "b"], "suffix": "c", "logprobs": 3, "echo": True, "best_of": 2},
    "responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "instructions": "Be brief.",
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}},
        "tools": [{"type": "function", **TOOL}],
        "truncation": "auto",
    },
    "anthropic": {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "max_tokens": 10,
        "tools": [{"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["END"],
        "top_k": 5,
        "metadata": {"user_id": "u"},
    },
    "gemini": {
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}
        ],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"temperature": 0.5, "seed": 1, "candidateCount": 1, "stopSequences": ["END"]},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "tools": [{"functionDeclarations": [TOOL]}],
    },
    "ollama": {
        "messages": [{"role": "user", "content": "Hi", "images": ["AA=="]}],
        "options": {"temperature": 0.5, "seed": 1, "stop": ["END"], "num_ctx": 2048},
        "format": {"type": "object"},
        "keep_alive": "5m",
        "think": False,
    },
    "native": {"prompt": "Hi", "temperature": 0.5, "system": "Be brief.", "maxTokens": 5, "stop": ["a"]},
}
MANNER = {"stream", "stream_options"}
Place = tuple[str | int, ...]


def body_of(name: str) -> dict[str, Any]:
    call = CALLS[name]
    return {**call.document, **RICH[name.partition(",")[0].partition(" ")[0]]}


def places(node: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a document at which something stands, branches too."""
    if at:
        yield at
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*at, key))


def other(value: Any) -> Any:
    """Something that is nearly the same: another text, number, truth, one element more."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value + 0.001
        case str():
            return value + " "
        case list():
            return [*value, value[-1] if value else 0]
        case dict():
            return {**value, "x_more": None}
        case _:
            return 0


def flipped(document: dict[str, Any], place: Place) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    node: Any = changed
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = other(node[place[-1]])
    return changed


def taken_out(document: dict[str, Any], place: Place) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    node: Any = changed
    for step in place[:-1]:
        node = node[step]
    del node[place[-1]]
    return changed


def same_key(asked: Questions, name: str, one: Any, two: Any) -> bool:
    path, headers = CALLS[name].path, CALLS[name].headers
    keys = [question_of(asked, exchange_of(path, document, headers)).key for document in (one, two)]
    return keys[0] == keys[1]


@pytest.mark.parametrize("name", CALLS)
def test_every_field_at_every_depth_makes_another_question_and_is_named(name: str) -> None:
    asked, document, call = questions(), body_of(name), CALLS[name]
    before = exchange_of(call.path, document, call.headers)
    seen = {question_of(asked, before).key}
    counted = [place for place in places(document) if place[0] not in {*MANNER, "model"}]

    for place in counted:
        for changed in (flipped(document, place), taken_out(document, place)):
            after = exchange_of(call.path, changed, call.headers)
            one, two = parts_of(asked, before), parts_of(asked, after)
            seen.add(question_of(asked, after).key)
            assert {part for part in one.keys() | two.keys() if one.get(part) != two.get(part)} == {place[0]}

    assert len(counted) > 3
    assert len(seen) == len({orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in _variants(document, counted)})


def _variants(document: dict[str, Any], counted: list[Place]) -> Iterator[dict[str, Any]]:
    yield document
    for place in counted:
        yield flipped(document, place)
        yield taken_out(document, place)


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(name=st.sampled_from(sorted(CALLS)), one=JSON, two=JSON)
def test_two_values_of_a_field_are_one_question_only_if_they_are_the_same_json(name: str, one: Any, two: Any) -> None:
    texts = [orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in (one, two)]

    is_same = same_key(questions(), name, {**body_of(name), "x_field": one}, {**body_of(name), "x_field": two})

    assert is_same == (texts[0] == texts[1])


@given(name=st.sampled_from(sorted(CALLS)), fields=st.dictionaries(TEXTS, JSON, max_size=4), random=st.randoms())
def test_order_of_keys_and_white_space_make_no_difference(name: str, fields: dict[str, Any], random: Any) -> None:
    document = {**fields, **body_of(name)}
    items = list(document.items())
    random.shuffle(items)

    assert same_key(questions(), name, document, orjson.dumps(dict(items), option=orjson.OPT_INDENT_2))


def test_numbers_of_more_than_64_bits_count_as_doubles_like_most_readers_of_json_take_them() -> None:
    seeds = [(2**64 - 1, 2**64 - 2), (2**64, 2**64 + 1), (2**64, 2**65)]
    bodies = [[b'{"model":"fake-model","messages":[],"seed":%d}' % seed for seed in pair] for pair in seeds]

    assert [same_key(questions(), "openai", *pair) for pair in bodies] == [False, True, False]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":0.0}', '{"a":-0.0}'),
        ('{"a":null}', "{}"),
        ('{"a":"\\u00e9"}', '{"a":"e\\u0301"}'),
        ('{"a":"1"}', '{"a":1}'),
        ('{"a":[[],{}]}', '{"a":[{},[]]}'),
        ('{"a":{"b":1},"c":2}', '{"a":{"b":1,"c":2}}'),
    ],
)
def test_bodies_that_only_look_alike_are_two_questions(one: str, two: str) -> None:
    assert not same_key(questions(), "openai", _with_model(one), _with_model(two))


def _with_model(text: str) -> bytes:
    return text.replace("{", '{"model":"fake-model","messages":[],', 1).replace(",}", "}").encode()


@pytest.mark.parametrize("name", CALLS)
def test_manner_and_ignored_fields_make_no_difference(name: str) -> None:
    asked = questions(ignore=["user", "metadata"])
    plain = {**body_of(name), "user": "a", "metadata": {"b": 1}}
    document = {key: content for key, content in plain.items() if key not in MANNER}
    others = [{**document, "user": "b"}, {**document, "metadata": None}, {**document, "user": None}]
    if "gemini" not in name:
        others += [{**document, "stream": True}, {**document, "stream": False}]
        others += [{**document, "stream": True, "stream_options": {"include_usage": True}}]

    assert all(same_key(asked, name, document, changed) for changed in others)
    assert not same_key(asked, name, document, {**document, "users": "b"})


def test_field_that_is_ignored_at_the_top_counts_below_it() -> None:
    nested = [{**CHAT, "messages": [{"role": "user", "content": "a", "user": name}]} for name in ("a", "b")]

    assert not same_key(questions(ignore=["user"]), "openai", *nested)


PATHS = [
    *(f"/{version}/{kind}/fake-model:{method}" for version in ("v1", "v1beta", "v1alpha")
      for kind in ("models", "tunedModels") for method in ("generateContent", "countTokens")),
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/",
]  # fmt: skip


def test_every_path_is_another_question() -> None:
    document = {**CHAT, "contents": [], "prompt": "a", "input": "a", "message": "a", "max_tokens": 1}

    keys = {path: question_of(questions(), exchange_of(path, document)).key for path in PATHS}

    assert len(set(keys.values())) == len(PATHS)


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_two_paths_of_gemini_for_one_question_are_one(version: str) -> None:
    document, at = body_of("gemini"), f"/{version}/models/fake-model"

    keys = {
        question_of(questions(), exchange_of(f"{at}:{method}", document)).key
        for method in ("generateContent", "streamGenerateContent", "streamGenerateContent?alt=sse")
    }

    assert len(keys) == 1


@pytest.mark.parametrize(
    "header",
    [
        *("anthropic-version", "anthropic-beta", "openai-beta", "openai-organization", "openai-project"),
        *("x-goog-user-project", "X-Tenant"),
    ],
)
@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini"])
def test_header_that_matters_makes_another_question(name: str, header: str) -> None:
    asked, call = questions(headers=["x-tenant"]), CALLS[name]
    others = {key: value for key, value in call.headers.items() if key != header}
    values = [None, "", "a", "A", "a,b", "b,a"]
    kinds = [others if value is None else {**others, header: value} for value in values]
    exchanges = [exchange_of(call.path, body_of(name), headers) for headers in kinds]

    keys = [question_of(asked, each).key for each in exchanges]
    parts = [parts_of(asked, each) for each in exchanges]

    assert len(set(keys[1:])) == len(values) - 1
    assert keys[0] == keys[1] or header.lower() not in asked.labels  # none and an empty one are alike
    differing = {part for part in parts[2].keys() | parts[3].keys() if parts[2].get(part) != parts[3].get(part)}
    assert differing == {f"(header {header.lower()})"}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([("anthropic-beta", "a"), ("anthropic-beta", "b")], [("anthropic-beta", "b")]),
        ([("anthropic-beta", "a"), ("anthropic-beta", "b")], [("anthropic-beta", "c"), ("anthropic-beta", "b")]),
        ([("Anthropic-Beta", "a"), ("anthropic-beta", "b")], [("anthropic-beta", "b"), ("anthropic-beta", "a")]),
    ],
)
def test_header_that_is_repeated_counts_as_often_as_it_stands(one: Any, two: Any) -> None:
    keys = {
        question_of(questions(), exchange_of("/v1/messages", body_of("anthropic"), each)).key for each in (one, two)
    }

    assert len(keys) == 2


def test_other_headers_make_no_difference() -> None:
    variants = [{}, {"User-Agent": "a"}, {"X-Request-Id": "b"}, {"Accept": "*/*"}, {"X-Tenant": "c"}]

    keys = {question_of(questions(), exchange_of("/v1/chat/completions", CHAT, each)).key for each in variants}

    assert len(keys) == 1


def test_queries_and_salts_make_other_questions_and_are_named() -> None:
    asked, base = questions(), exchange_of("/v1/chat/completions", CHAT)
    variants = {
        "(query)": exchange_of("/v1/chat/completions?a=1", CHAT),
        "(salt)": exchange_of("/v1/chat/completions", CHAT, {"X-Cache-Salt": "1"}),
        "(caller)": exchange_of("/v1/chat/completions", CHAT, {"Authorization": "Bearer a"}),
    }

    for label, changed in variants.items():
        one, two = parts_of(asked, base), parts_of(asked, changed)
        assert {part for part in one.keys() | two.keys() if one.get(part) != two.get(part)} == {label}
    assert len({question_of(asked, each).key for each in (base, *variants.values())}) == 4


TARGET_LISTS = [
    (Candidate("a", "x"),),
    (Candidate("a", "y"),),
    (Candidate("b", "x"),),
    (Candidate("a", None),),
    (Candidate("a", "None"),),
    (Candidate("a", "x"), Candidate("b", "y")),
    (Candidate("b", "y"), Candidate("a", "x")),
    (Candidate("a", "x,b/y"),),
    (Candidate("a", 'x"),("b","y'),),
    (Candidate("a/x", "y"),),
    (Candidate("a", "x/y"),),
    (Candidate("a", "x\0"),),
    (Candidate("a", "x\ud800"),),
    (Candidate("a", "x\\x00"),),
]


def test_models_that_lead_elsewhere_are_other_questions() -> None:
    asked, exchange = questions(), exchange_of("/v1/chat/completions", CHAT)

    keys = {question_of(asked, exchange, targets).key for targets in TARGET_LISTS}
    parts = [parts_of(asked, exchange, targets) for targets in TARGET_LISTS[:2]]

    assert len(keys) == len(TARGET_LISTS)
    assert {part for part in parts[0] if parts[0][part] != parts[1].get(part)} == {"(model)"}


def test_names_of_one_target_are_one_question() -> None:
    exchanges = [
        exchange_of("/v1/chat/completions", {**CHAT, "model": name}) for name in ("alias", "vendor/fake-model")
    ]

    assert len({question_of(questions(), each, TARGETS).key for each in exchanges}) == 1


PIECES = st.lists(st.sampled_from(["", "a", "b", "ab", "/", "(", '"', "\\", "&", "key=", "alt=", "="]), max_size=3)


@given(one=st.tuples(PIECES, PIECES, PIECES), two=st.tuples(PIECES, PIECES, PIECES))
def test_no_part_runs_into_the_next(one: Any, two: Any) -> None:
    assume(one != two)
    made = []
    for parts in (one, two):
        salt, beta, text = map("".join, parts)
        headers = {"X-Cache-Salt": salt, "anthropic-beta": beta}
        document = {**CHAT, "messages": [{"role": "user", "content": text}]}
        made.append(((salt, beta, text), question_of(questions(), exchange_of("/v1/messages", document, headers)).key))

    assert (made[0][0] == made[1][0]) == (made[0][1] == made[1][1])


# -- in a proxy ------------------------------------------------------------------------------------------------------


async def test_alias_that_comes_to_mean_another_model_is_asked_anew(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(
        providers={"vendor": upstream.provider()}, models={"best": ["vendor/one"]}, cache={"enabled": True}
    )
    await ask(proxy, model="best")

    same = await ask(proxy, model="vendor/one")
    await change(proxy, {"models": {"best": ["vendor/two"]}})
    changed = await ask(proxy, model="best")

    assert (said(same), said(changed)) == ((200, "hit", None), (200, "miss", "absent"))
    assert [seen.document["model"] for seen in upstream.requests] == ["one", "two"]


async def test_provider_that_moved_is_asked_anew(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    async with FakeProvider() as elsewhere:
        await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True})
        await ask(proxy)

        await change(proxy, {"providers": {"vendor": {"baseUrl": f"{elsewhere.url}/v1"}}})
        moved = await ask(proxy)

        assert said(moved) == (200, "miss", "absent")
        assert (upstream.requests_seen, elsewhere.requests_seen) == (1, 1)


async def test_request_that_waited_while_its_provider_moved_leaves_no_answer_under_the_new_place(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.once.stream(["first"], gate=gate, gate_after=0)
    upstream.reply("old place")
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True}, max_concurrency=1)
    async with FakeProvider() as elsewhere, Crowd(proxy) as crowd:
        elsewhere.reply("new place")
        await crowd.ask(1, STREAMED["openai"])
        await upstream.wait_for_request()
        waiting = await crowd.ask(1)
        await until(lambda: proxy.app.pipeline.slots.waiting == 1, "one in line")
        await change(proxy, {"providers": {"vendor": {"baseUrl": f"{elsewhere.url}/v1"}}})
        gate.set()
        earlier = await waiting[0].read_response()
        await until_idle(proxy)

        after = await ask(proxy)

    assert (b"old place" in earlier.body, upstream.requests_seen) == (True, 2)
    assert (said(after)[1], b"new place" in after.body) == ("miss", True)


async def test_fields_and_headers_are_told_apart_on_the_wire(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream, headers=["X-Tenant"], ignore=["user"])
    await ask(proxy)

    changed = [
        await ask(proxy, temperature=0.5),
        await ask(proxy, headers={"X-Tenant": "a"}),
        await ask(proxy, headers={"X-Cache-Salt": "a"}),
        await ask(proxy, headers={"Authorization": "Bearer a"}),
    ]
    same = await ask(proxy, user="somebody", stream=False)

    assert [said(each)[1] for each in changed] == ["miss"] * 4
    assert (said(same)[1], upstream.requests_seen) == ("hit", 5)


async def test_embeddings_and_counts_are_kept_too(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    body = {"model": "fake-model", "input": ["a", "b"]}

    replies = [await proxy.request("POST", "/v1/embeddings", body) for _ in range(2)]
    other_way = await proxy.request("POST", "/v1/embeddings", {**body, "encoding_format": "base64"})

    assert [said(each)[1] for each in (*replies, other_way)] == ["miss", "hit", "miss"]
    assert replies[0].body == replies[1].body


assert WHOLE.keys() >= RICH.keys()
