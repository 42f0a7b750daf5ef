"""Who is let in: a key that is right, for its models, within its budget; everybody else is turned away and told why."""

from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ClientError, Refused, Unauthorized
from proxy.exchange import Candidate, Operation
from tests.plugins.keys_rig import KeysRig, asked

RAW = Operation("openai", "raw", "POST", "/v1/{rest}", reads_body=False)
MODELS = Operation("openai", "models", "GET", "/v1/models", reads_body=False)
NATIVE = Operation("native", "chat", "POST", "/", streams=True)
SOMEBODYS_KEY = "sk-proj-somebodys-real-key-4f9a1b7c"


async def test_right_key_lets_in_and_tells_who_it_is(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(limits={"requestsPerMinute": 3}, metadata={"team": "a"})

        exchange = keys.begin(made["key"])

        identity = exchange.identity
        assert identity is not None
        assert (identity.id, identity.name, dict(identity.metadata)) == (made["id"], "team-a", {"team": "a"})
        assert [(each.counts, each.amount, each.per_s) for each in identity.limits] == [("requests", 3.0, 60.0)]
        assert exchange.caller_id == f"key:{made['id']}"


@pytest.mark.parametrize(
    ("text", "message", "reason"),
    [
        (None, "key missing", "missing"),
        ("", "key missing", "missing"),
        (SOMEBODYS_KEY, "key not known", "unknown"),
        ("sk-sw-", "key not known", "unknown"),
        ("\udc80\u2603", "key not known", "unknown"),
    ],
)
async def test_without_a_right_key_nobody_passes(tmp_path: Path, text: str | None, message: str, reason: str) -> None:
    async with KeysRig(tmp_path) as keys:
        await keys.create()

        with pytest.raises(Unauthorized, match=message) as refused:
            keys.begin(text)

        assert refused.value.status == 401
        assert keys.refused() == {reason: 1}
        assert asked(text).identity is None


async def test_without_any_key_made_nobody_passes(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        with pytest.raises(Unauthorized):
            keys.begin(SOMEBODYS_KEY)

        assert [issue.kind for issue in keys.plugin.config_issues()] == ["no_keys"]


async def test_wrong_keys_are_told_seldom_and_never_shown(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        for _ in range(50):
            with pytest.raises(Unauthorized) as refused:
                keys.begin(SOMEBODYS_KEY)
            assert SOMEBODYS_KEY[-5:] not in refused.value.message
        keys.now_s += 11
        with pytest.raises(Unauthorized):
            keys.begin(SOMEBODYS_KEY)

        first, second = keys.rig.told("auth_failed")
        assert (first.level, "49 more" in second.message) == ("WARN", True)
        assert all(word in first.message for word in ("auth", "key", "token", "192.0.2.1"))
        shown = repr([first, second])
        assert SOMEBODYS_KEY[-4:] in shown
        assert SOMEBODYS_KEY[-5:] not in shown
        assert SOMEBODYS_KEY[:8] not in shown


async def test_key_that_is_switched_off_expired_or_revoked_lets_nobody_in(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        off, old, gone = [await keys.create(name) for name in ("off", "old", "gone")]
        running = keys.begin(gone["key"])
        await keys.change(off["id"], enabled=False)
        await keys.change(old["id"], expiresIn="1h")
        await keys.call("DELETE", "/keys/{id}", key_id=gone["id"])
        keys.begin(old["key"])
        keys.now_s += 3600

        for made, message in ((off, "off is disabled"), (old, "old is expired"), (gone, "not known")):
            with pytest.raises(Unauthorized, match=message):
                keys.begin(made["key"])
        keys.end(running, 10, 10)  # those in work go on

        assert keys.refused() == {"disabled": 1, "expired": 1, "unknown": 1}


async def test_rotated_key_works_for_its_grace(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        rotated = await keys.call("POST", "/keys/{id}/rotate", key_id=made["id"], grace="1h")

        keys.begin(made["key"])
        keys.begin(rotated["key"])
        known = [keys.plugin.identify(text, True) for text in (made["key"], rotated["key"])]
        keys.now_s += 3600
        keys.begin(rotated["key"])
        with pytest.raises(Unauthorized):
            keys.begin(made["key"])

        assert [each.id if each else None for each in known] == [made["id"]] * 2
        assert keys.plugin.identify(made["key"], True) is None
        assert keys.plugin.identify(made["key"], False) is None


# -- where the key may not go ---------------------------------------------------------------------------------------


async def test_key_is_taken_out_of_whatever_is_passed_on(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        text = (await keys.create())["key"]
        escaped = "".join(f"%{ord(each):02x}" for each in text)
        headers = [
            (b"Authorization", b"Bearer " + text.encode()),
            (b"X-My-Own", b"a " + text.encode() + b" b"),
            (b"X-Plain", b"stays"),
        ]
        query = f"a=1&key={text}&token={escaped}&{escaped}=x&b=%2525&c=a+b".encode()

        request = keys.begin(text, headers=headers, query=query).request

        assert request.headers == [(b"X-Plain", b"stays")]
        assert request.query == b"a=1&b=%2525&c=a+b"


async def test_what_holds_no_key_stays_as_it_is(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        text = (await keys.create())["key"]
        headers = ((b"X-Plain", b"stays"),)

        request = keys.begin(text, headers=headers, query=b"&&a=%zz&=").request

        assert (tuple(request.headers), request.query) == (headers, b"&&a=%zz&=")


@pytest.mark.parametrize("spelling", ["{}", "%73{}"])
async def test_path_that_holds_the_key_is_refused(tmp_path: Path, spelling: str) -> None:
    async with KeysRig(tmp_path) as keys:
        text = (await keys.create())["key"]
        exchange = asked(text)
        exchange.request.path = b"/x/" + spelling.format(text if spelling == "{}" else text[1:]).encode()

        with pytest.raises(ClientError, match="path holds the key"):
            keys.plugin.pre_request(exchange)


# -- models ----------------------------------------------------------------------------------------------------------


async def test_key_is_for_its_models_only(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        text = (await keys.create(models=["gpt-4o*", "fast"]))["key"]

        for model in ("gpt-4o", "gpt-4o-mini", "fast"):
            keys.begin(text, model=model)
        for model in ("gpt-4", "claude", "openai/gpt-4o", "fast\n", "x" * 5000, None):
            with pytest.raises(Refused) as refused:
                keys.begin(text, model=model)
            assert (refused.value.status, refused.value.code) == (403, "model_not_allowed")
            assert len(refused.value.message) < 300


async def test_listing_needs_a_key_but_no_model(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        text = (await keys.create(models=["gpt-4o"], budget={"perDay": 0.001}))["key"]

        keys.begin(text, operation=MODELS, model=None)
        with pytest.raises(Unauthorized):
            keys.begin(None, operation=MODELS, model=None)


async def test_model_of_a_path_that_has_a_default_is_looked_at_too(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        text = (await keys.create(models=["gpt-4o"]))["key"]
        exchange = asked(text, model=None, operation=NATIVE)

        def name_default(_: Any) -> tuple[Candidate, ...]:
            exchange.request.model = "claude"
            return ()

        keys.plugin._gate._targets = name_default
        with pytest.raises(Refused, match="may not use 'claude'"):
            keys.plugin.pre_request(exchange)


class Upload:
    length = 10

    def __aiter__(self) -> Any:
        raise NotImplementedError

    def is_client_gone(self) -> bool:
        return False


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"model": "gpt-4o", "named_provider": "openai"},
        {"model": "gpt-4o", "upload": Upload()},
    ],
)
@pytest.mark.parametrize("settings", [{"models": ["gpt-4o"]}, {"budget": {"perDay": 5}}])
async def test_paths_that_cannot_be_held_to_bounds_are_closed_to_keys_with_bounds(
    tmp_path: Path, settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    async with KeysRig(tmp_path) as keys:
        bound, free = (await keys.create(**settings))["key"], (await keys.create("free"))["key"]

        keys.begin(free, operation=RAW, **fields)
        with pytest.raises(Refused) as refused:
            keys.begin(bound, operation=RAW, **fields)
        assert (refused.value.status, refused.value.code) == (403, "path_not_allowed")

    async with KeysRig(tmp_path, unmeasured="allow") as keys:
        keys.begin(bound, operation=RAW, **fields)


async def test_named_model_of_a_raw_json_body_is_looked_at(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        text = (await keys.create(models=["dall-e-*"]))["key"]

        keys.begin(text, operation=RAW, model="dall-e-3")
        with pytest.raises(Refused, match="may not use"):
            keys.begin(text, operation=RAW, model="gpt-image")


# -- budgets ---------------------------------------------------------------------------------------------------------


async def test_budget_counts_what_requests_cost_and_refuses_when_it_is_used_up(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:  # $0.001 a token
        made = await keys.create(budget={"perDay": 0.1})
        keys.end(keys.begin(made["key"], max_output_tokens=50), 40, 50)

        assert (await keys.show(made["id"]))["spend"]["today"] == 0.09
        with pytest.raises(Refused) as refused:
            keys.begin(made["key"], max_output_tokens=50)

        error = refused.value
        assert (error.status, error.code) == (429, "budget_exceeded")
        assert error.retry_after_s == 86_400 - keys.now_s % 86_400
        assert "$0.09 of $0.1" in error.message
        keys.now_s += error.retry_after_s
        keys.begin(made["key"], max_output_tokens=50)


async def test_used_up_budget_tells_sdks_not_to_try_again(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(budget={"perMonth": 0.01})
        exchange = asked(made["key"], max_output_tokens=50)

        with pytest.raises(Refused, match="this month"):
            keys.plugin.pre_request(exchange)

        assert exchange.told == b"x-should-retry: false\r\n"


async def test_budget_held_by_running_requests_says_to_come_back_soon(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(budget={"perDay": 0.1})
        running = keys.begin(made["key"], max_output_tokens=90)
        exchange = asked(made["key"], max_output_tokens=50)

        with pytest.raises(Refused) as refused:
            keys.plugin.pre_request(exchange)

        assert (refused.value.retry_after_s, exchange.told) == (1.0, b"")
        keys.end(running, 0, 1)
        keys.begin(made["key"], max_output_tokens=50)


async def test_many_at_once_do_not_get_past_the_budget(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(budget={"perDay": 0.1})
        running = []
        for _ in range(1000):
            try:
                running.append(keys.begin(made["key"], max_output_tokens=10))
            except Refused:
                continue
        for exchange in running:
            keys.end(exchange, 0, 10)

        assert len(running) == 10
        spend = (await keys.show(made["id"]))["spend"]
        assert (spend["today"], spend["held"]) == (0.1, 0.0)


async def test_estimate_reckons_with_the_dearest_who_could_answer(tmp_path: Path) -> None:
    async with KeysRig(tmp_path, estimatedOutput=100) as keys:
        keys.candidates = (Candidate("free", "m"), *keys.candidates)
        made = await keys.create(budget={"perDay": 1})

        keys.begin(made["key"], body=b"x" * 40)

        assert (await keys.show(made["id"]))["spend"]["held"] == 0.11


async def test_refused_later_costs_nothing(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(budget={"perDay": 100})
        exchange = keys.begin(made["key"])
        exchange.status, exchange.error = 429, Refused("limited", code="rate_limited", status=429)

        keys.plugin.post_response(exchange)

        spend = (await keys.show(made["id"]))["spend"]
        assert (spend["today"], spend["held"]) == (0.0, 0.0)


async def test_unknown_price_counts_nothing_and_is_told_as_an_issue(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        keys.candidates = (Candidate("fake", "gpt-4o"),)
        made = await keys.create(budget={"perDay": 0.001})

        keys.end(keys.begin(made["key"]), 1000, 1000)

        (issue,) = keys.plugin.config_issues()
        assert (issue.kind, "fake/gpt-4o" in issue.message) == ("key_budget_without_price", True)
        assert (await keys.show(made["id"]))["spend"]["total"] == 0.0


async def test_limits_that_nobody_holds_are_an_issue_until_somebody_does(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(limits={"requestsPerMinute": 5})
        unlimited = await keys.create("b")

        keys.end(keys.begin(unlimited["key"]))
        assert not keys.plugin.config_issues()
        keys.end(keys.begin(made["key"]))
        (issue,) = keys.plugin.config_issues()
        held = keys.begin(made["key"])
        held.are_limits_held = True
        keys.end(held)

        assert (issue.kind, issue.severity) == ("key_limits_unheld", "error")
        assert made["id"] in issue.message
        assert not keys.plugin.config_issues()


async def test_request_that_reached_nobody_tells_nothing_of_limits(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(limits={"requestsPerMinute": 5})
        exchange = keys.begin(made["key"])
        exchange.status = 403

        keys.plugin.post_response(exchange)

        assert not keys.plugin.config_issues()


async def test_revoked_key_has_no_limits_to_be_held(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        await keys.create("b")
        made = await keys.create(limits={"requestsPerMinute": 5})
        keys.end(keys.begin(made["key"]))

        await keys.call("DELETE", "/keys/{id}", key_id=made["id"])

        assert not keys.plugin.config_issues()


async def test_background_refresh_is_paid_by_the_key_it_is_for(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        first = keys.begin(made["key"])
        again = asked(made["key"])
        again.identity, again.is_background = first.identity, True

        keys.end(again, 10, 20)

        assert (await keys.show(made["id"]))["spend"]["total"] == 0.03


async def test_change_of_a_budget_counts_for_requests_that_run(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        running = keys.begin(made["key"])
        await keys.change(made["id"], budget={"perDay": 0.05})

        keys.end(running, 0, 50)

        with pytest.raises(Refused, match="used up"):
            keys.begin(made["key"], max_output_tokens=1)


async def test_new_settings_are_taken_while_requests_run(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(budget={"perDay": 5})
        keys.plugin.reconfigure(keys.plugin.config.model_copy(update={"estimated_output": 7}))

        keys.begin(made["key"])

        assert (await keys.show(made["id"]))["spend"]["held"] == 0.007


def test_it_is_off_by_default_and_fails_closed() -> None:
    plugin = KeysRig(Path("nowhere")).plugin

    assert type(plugin.config)().enabled is False
    assert plugin.on_failure == "closed"
