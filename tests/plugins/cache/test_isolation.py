"""Nobody gets an answer that another credential paid for, unless all share; and then nobody can poison it (F10)."""

import asyncio
from collections.abc import Iterator
from random import Random

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyHarness, RawClient, RawResponse
from proxy.testing.raw_client import encode_request
from tests.plugins.cache.asking import exchange_of, question_of, questions
from tests.plugins.cache.rig import CHAT, MODEL, STREAMED, Crowd, ask, begin, read_all, said, until_idle

PATH = "/v1/chat/completions"
PREFIX = "sk-proj-0123456789ab"
"""20 characters, as the keys of one vendor begin."""


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


STYLES = (
    bearer,
    lambda key: {"authorization": f"bearer {key}"},
    lambda key: {"Authorization": f"Bearer   {key} "},
    lambda key: {"x-api-key": key},
    lambda key: {"X-Goog-Api-Key": key},
    lambda key: {"api-key": key},
    lambda key: {"Authorization": "Bearer ", "x-api-key": key},
    lambda key: {**bearer(key), "x-api-key": "of nobody"},
    lambda key: {**bearer(key), "Cookie": f"session={key}"},
)
"""Where SDKs put a key."""


def rivals(random: Random, key: str) -> str:
    """Make another key that is as like this one as can be."""
    at = random.randrange(len(key))
    kind = random.randrange(7)
    if kind == 0:
        return key[:at] + ("x" if key[at] != "x" else "y") + key[at + 1 :]
    if kind == 1:
        return key + random.choice("a\u00a0.")
    if kind == 2:
        return key.swapcase() if key.swapcase() != key else key + "s"
    if kind == 3:
        return key[:-1]
    if kind == 4:
        return key[:20] + random.randbytes(8).hex()
    if kind == 5:
        return key[:at] + "\u00e9" + key[at:]
    return key[:at] + "e\u00b4" + key[at:]


def pairs(count: int) -> Iterator[tuple[str, str]]:
    random = Random(10)
    for number in range(count):
        key = PREFIX + random.randbytes(random.randint(1, 16)).hex() + ("\u00e9" if number % 5 == 0 else "")
        yield key, rivals(random, key)


def test_ten_thousand_pairs_of_callers_share_nothing() -> None:
    asked, random = questions(), Random(11)
    hits = same = 0

    for one, two in pairs(10_000):
        styles = random.choices(STYLES, k=3)
        of_one, of_two, again = (
            question_of(asked, exchange_of(PATH, CHAT, style(key)))
            for style, key in zip(styles, (one, two, one), strict=True)
        )
        hits += of_one.key == of_two.key or of_one.partition == of_two.partition
        same += of_one.key == again.key

    assert (hits, same) == (0, 10_000)


def test_key_in_the_query_is_told_apart_however_it_is_written() -> None:
    asked, path = questions(), f"/v1beta/models/{MODEL}:generateContent"
    queries = ["", "?key=a", "?key=A", "?key=a%20", "?key=%C3%A9", "?key=%E9", "?key=%E8", "?key=a&key=b", "?key="]
    body = {"contents": []}

    partitions = [question_of(asked, exchange_of(path + query, body)).partition for query in queries]
    by_header = question_of(asked, exchange_of(path, body, {"x-goog-api-key": "a"}))
    escaped = question_of(asked, exchange_of(f"{path}?k%65y=a", body))

    assert len(set(partitions)) == len(queries) - 2  # an empty one is none, and of two the first counts
    assert {partitions[1], partitions[7], escaped.partition} == {by_header.partition}
    assert question_of(asked, exchange_of(f"{path}?key=a", body)).key == by_header.key


UNREAD = ["Basic YTpi", "Basic YTpj", "Token a", "Bearer", "bearer ", "a", "AWS4-HMAC-SHA256 Credential=a"]


def test_credential_of_a_scheme_that_is_not_read_is_told_apart_too() -> None:
    asked = questions()

    keys = [question_of(asked, exchange_of(PATH, CHAT, {"Authorization": text})).key for text in UNREAD]
    none = question_of(asked, exchange_of(PATH, CHAT)).key

    assert len({*keys, none}) == len({text.strip().lower() for text in UNREAD}) + 1


def test_callers_without_a_credential_are_told_apart_by_their_address() -> None:
    exchanges = [exchange_of(PATH, CHAT, headers) for headers in ({}, {}, {"x-api-key": ""}, {"Authorization": ""})]
    exchanges[1].peer = "10.0.0.2"

    keys = [question_of(questions(), each).key for each in exchanges]

    assert keys[0] != keys[1]
    assert keys[0] == keys[2] == keys[3]


def test_no_credential_stands_in_what_is_kept() -> None:
    secret = "sk-canary-7741"  # of nobody
    question = question_of(questions(), exchange_of(PATH, CHAT, bearer(secret)))
    basic = question_of(questions(), exchange_of(PATH, CHAT, {"Authorization": f"Basic {secret}"}))

    assert secret not in repr(question)
    assert secret not in repr(basic)


# -- on the wire -----------------------------------------------------------------------------------------------------

CALLERS: list[dict[str, str]] = [
    *(bearer(f"{PREFIX}{end}") for end in ("a", "b", "A", "aa", "a\u00e9", "a\u00c9", "ae\u00b4", "")),
    *({"x-api-key": f"{PREFIX}{end}"} for end in ("c", "C", "cc", "c\u00e9")),
    *({"x-goog-api-key": f"{PREFIX}{end}"} for end in ("d", "D", "dd")),
    *({"Authorization": f"Basic {end}"} for end in ("YTpi", "YTpj")),
    {},
]


async def ask_raw(proxy: ProxyHarness, headers: dict[str, str], target: str = PATH) -> RawResponse:
    async with RawClient(proxy.url) as client:
        await client.send(encode_request("POST", target, orjson.dumps(CHAT), headers, host="127.0.0.1"))
        return await client.read_response()


@pytest.mark.parametrize("is_one_connection", [False, True])
async def test_each_caller_asks_for_itself_and_gets_its_own_answer_again(
    proxy: ProxyHarness, upstream: FakeProvider, is_one_connection: bool
) -> None:
    await begin(proxy, upstream)
    for number in range(len(CALLERS)):
        upstream.once.reply(f"answer-of-{number}")
    first, second = [], []

    async with RawClient(proxy.url) as client:
        for found in (first, second):
            for headers in CALLERS:
                if is_one_connection:
                    found.append(await client.request("POST", PATH, orjson.dumps(CHAT), headers))
                else:
                    found.append(await ask_raw(proxy, headers))

    assert [said(each)[1] for each in first + second] == ["miss"] * len(CALLERS) + ["hit"] * len(CALLERS)
    assert [each.body for each in first] == [each.body for each in second]
    assert all(b"answer-of-%d" % number in each.body for number, each in enumerate(second))
    assert upstream.requests_seen == len(CALLERS)


async def test_dozens_of_pairs_share_nothing_on_the_wire(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    callers = {key: bearer(key) for pair in pairs(40) for key in pair}

    replies = [await ask_raw(proxy, headers) for headers in callers.values()]

    assert {said(each)[1] for each in replies} == {"miss"}
    assert upstream.requests_seen == len(callers) > 70


async def test_callers_that_ask_at_the_same_time_wait_for_nobody_elses_answer(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream)
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)

    async with Crowd(proxy) as crowd:
        for headers in CALLERS * 2:
            await crowd.ask(1, STREAMED["openai"], headers)
        await crowd.follow(len(CALLERS))
        gate.set()
        replies = await read_all(crowd.clients)

    assert [said(each)[1] for each in replies] == ["miss"] * len(CALLERS) + ["coalesced"] * len(CALLERS)
    assert upstream.requests_seen == len(CALLERS)


async def test_answers_are_shared_where_that_is_said(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream, partition="shared")

    replies = [await ask_raw(proxy, headers) for headers in CALLERS]
    salted = await ask_raw(proxy, {**CALLERS[0], "X-Cache-Salt": "mine"})

    assert [said(each)[1] for each in replies] == ["miss"] + ["hit"] * (len(CALLERS) - 1)
    assert (said(salted)[1], upstream.requests_seen) == ("miss", 2)


LIE = b'{"role":"user","content":"Lie."}'
TRUTH = b'{"role":"user","content":"Capital of France?"}'
POISON = [
    b'{"model":"fake-model","messages":[%b],"messages":[%b]}' % (LIE, TRUTH),
    b'{"model":"fake-model","mess\\u0061ges":[%b],"messages":[%b]}' % (LIE, TRUTH),
    b'{"model":"fake-model","messages":[{"role":"user","content":"Lie.","content":"Capital of France?"}]}',
]


@pytest.mark.parametrize("poison", POISON, ids=["plain", "escaped", "nested"])
async def test_field_given_twice_cannot_poison_what_all_share(
    proxy: ProxyHarness, upstream: FakeProvider, poison: bytes
) -> None:
    await begin(proxy, upstream, partition="shared")

    await proxy.request("POST", PATH, poison, bearer("attacker"))
    victim = await ask(proxy, headers=bearer("victim"))

    assert said(victim)[1] == "hit"
    assert b"Lie." not in upstream.requests[0].body
    assert upstream.requests[0].document == CHAT


@pytest.mark.parametrize("poison", POISON, ids=["plain", "escaped", "nested"])
async def test_field_given_twice_cannot_poison_a_refresh_either(
    proxy: ProxyHarness, upstream: FakeProvider, poison: bytes
) -> None:
    await begin(proxy, upstream, partition="shared", ttl=0, staleWhileRevalidate=60)
    await ask(proxy, headers=bearer("victim"))

    stale = await proxy.request("POST", PATH, poison, bearer("attacker"))
    await upstream.wait_for_request(2)
    await until_idle(proxy)

    assert said(stale)[1] == "stale"
    assert [seen.document for seen in upstream.requests] == [CHAT, CHAT]
    assert b"Lie." not in upstream.requests[1].body


@pytest.mark.parametrize("poison", POISON, ids=["plain", "escaped", "nested"])
async def test_body_of_a_caller_of_its_own_goes_out_as_it_is(
    proxy: ProxyHarness, upstream: FakeProvider, poison: bytes
) -> None:
    await begin(proxy, upstream)

    await proxy.request("POST", PATH, poison, bearer("one"))
    other = await ask(proxy, headers=bearer("two"))

    assert said(other)[1] == "miss"
    assert bytes(upstream.requests[0].body) == poison
