"""Each kind of issue is found, says what it should, and is gone once its patch is applied."""

import shlex
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from proxy.config.issues import as_json, find_issues
from proxy.config.models import Settings
from proxy.config.patch import merge
from proxy.plugin import Issue
from tests.proxy.config.issue_facts import CANARY, Raw, facts, kinds, one, remote, two

WRONG: list[tuple[Raw, str, str, str, str]] = [
    ({"providers": {}}, "no_provider", "error", "providers", "there is none"),
    (one(remote(enabled=False)), "no_provider", "error", "providers", "none of 1 is enabled"),
    (
        {"providers": {"a": remote(enabled=False), "b": remote()}, "models": {"fast": ["b/x", "a/x"]}},
        "alias_to_nothing",
        "warning",
        "models.fast.1",
        '"a/x": the provider a is not enabled',
    ),
    (
        {"providers": {"a": remote(enabled=False), "b": remote()}, "models": {"fast": ["a/x", "a/y"]}},
        "alias_to_nothing",
        "error",
        "models.fast.0",
        '"a/x": the provider a is not enabled',
    ),
    (
        one(remote(type="http"), models={"fast": ["a/x"]}),
        "alias_to_nothing",
        "error",
        "models.fast.0",
        '"a/x": the provider a is of type http, which is reached at /proxy/a/ only',
    ),
    (
        one(remote(models=["gpt-*"]), models={"fast": ["a/gtp-4"]}),
        "alias_to_unlisted_model",
        "info",
        "models.fast.0",
        '"gtp-4" is none of the models of a: gpt-*',
    ),
    (
        two(models={"fast": ["a/x", "b/y"]}, enableFallbackProviders=False),
        "fallback_unreachable",
        "warning",
        "models.fast",
        "has 2 targets, and enableFallbackProviders is false: b is never asked",
    ),
    (
        two(models={"fast": ["a/x", "b/y"]}, failover={"models": {"fast": {"enabled": False}}}),
        "fallback_unreachable",
        "warning",
        "models.fast",
        "has 2 targets, and failover.models.fast.enabled is false: b is never asked",
    ),
    (
        one(remote(models=["gpt-*"]), failover={"models": {"gtp-4": {"attempts": 2}}}),
        "failover_of_nothing",
        "warning",
        "failover.models.gtp-4",
        "is no alias, and no enabled provider has a model of this name",
    ),
    (
        one(remote(models=["gpt-*"]), failover={"models": {"gpt-4": {"fallbacks": ["a/x", "cluade"]}}}),
        "fallback_to_nothing",
        "warning",
        "failover.models.gpt-4.fallbacks.1",
        '"cluade" is no alias, no model of an enabled provider, and no provider/model',
    ),
    (
        one(remote(), hedging={"enabled": True}),
        "hedging_alone",
        "info",
        "hedging.enabled",
        "is on, and there are no two enabled providers",
    ),
    (
        two(models={"fast": ["a/x", "e/y"]}),
        "fallback_echo",
        "warning",
        "models.fast.1",
        "falls back from a to e, which is of type echo",
    ),
    (
        {
            "providers": {"a": remote(enabled=False), "e": {"type": "echo"}},
            "models": {"fast": ["a/x", "e/y"]},
            "enableFallbackProviders": False,
        },
        "fallback_echo",
        "warning",
        "models.fast.1",
        "falls back from a to e, which is of type echo",
    ),
    (
        one(remote(maxConcurrency=200)),
        "limit_above_process",
        "warning",
        "providers.a.maxConcurrency",
        "200 is above maxConcurrency of the whole process, 100",
    ),
    (
        one(remote(maxConcurrency=40)),
        "limit_above_providers",
        "info",
        "maxConcurrency",
        "100 is above what the providers take together, 40",
    ),
    (
        one(remote(timeouts={"total": "30s", "firstByte": "60s", "idle": "none"})),
        "timeouts_contradict",
        "warning",
        "providers.a.timeouts.firstByte",
        "60 s is above timeouts.total, 30 s",
    ),
    (
        one(remote(timeouts={"total": "30s", "firstByte": "10s"})),
        "timeouts_contradict",
        "info",
        "providers.a.timeouts.idle",
        "60 s, the default, is above timeouts.total, 30 s",
    ),
    (
        one(remote(timeouts={"total": "5s", "firstByte": 1, "idle": 1})),
        "timeouts_contradict",
        "info",
        "providers.a.timeouts.connect",
        "5 s, the default, is not below timeouts.total, 5 s",
    ),
    (
        one(remote(maxConcurrency=100, queueTimeout="2m", timeouts={"total": "60s"})),
        "queue_longer_than_total",
        "info",
        "providers.a.queueTimeout",
        "120 s is above timeouts.total, 60 s",
    ),
    (
        one(remote(tls={"verify": False})),
        "tls_not_verified",
        "warning",
        "providers.a.tls.verify",
        "is false",
    ),
    (
        one(remote(baseUrl="http://10.0.0.1:8000/v1")),
        "key_over_plain_http",
        "warning",
        "providers.a.baseUrl",
        "a key is sent to 10.0.0.1 over plain http",
    ),
    (
        one({"type": "anthropic", "baseUrl": "https://api.anthropic.com", "headers": {"x-api-key": "k"}}),
        "provider_without_models",
        "info",
        "providers.a.models",
        "is empty, and no alias names this provider",
    ),
    (
        one(remote(baseUrl="https://api.openai.com/v1", apiKey="")),
        "provider_without_key",
        "info",
        "providers.a.apiKey",
        "is not set, and api.openai.com answers nobody without a key",
    ),
    (
        one(remote(apiKey="${EMPTY}")),
        "key_empty",
        "warning",
        "providers.a.apiKey",
        "is written as a reference, and EMPTY is empty",
    ),
    (
        {"server": {"allowedOrigins": ["https://a.example", "*"]}},
        "any_origin",
        "warning",
        "server.allowedOrigins",
        'holds "*", which is every web page',
    ),
    (
        two(models={"x": ["b/y"]}),
        "model_shadowed",
        "info",
        "models.x",
        "is also a model of a, which is none of its targets",
    ),
    (
        {
            "providers": {"a": remote(weight=2), "b": remote()},
            "balancer": {"enabled": False},
        },
        "weight_without_balancer",
        "warning",
        "balancer.enabled",
        "the weights of priority 0 differ (a 2, b 1), and the plugin balancer is not enabled",
    ),
]


@pytest.mark.parametrize(
    ("raw", "kind", "severity", "path", "message"), WRONG, ids=[f"{case[1]}-{case[3]}" for case in WRONG]
)
def test_issue_is_found_and_mended_by_its_patch(raw: Raw, kind: str, severity: str, path: str, message: str) -> None:
    (found,) = [issue for issue in find_issues(facts(raw)) if (issue.kind, issue.path) == (kind, path)]

    assert (found.severity, found.message) == (severity, message)
    assert found.why
    assert found.patch is not None
    assert found.command is None

    mended = find_issues(facts(merge(raw, found.patch)))

    assert (kind, path) not in kinds(mended)
    assert not {issue.path for issue in mended if issue.kind == kind} - {
        issue.path for issue in find_issues(facts(raw)) if issue.kind == kind
    }


RIGHT: list[tuple[str, Raw]] = [
    ("an empty document", {}),
    ("a provider with nothing special", one(remote())),
    ("a model of its own list", one(remote(models=["gpt-*"]), models={"fast": ["a/gpt-4"]})),
    ("an alias of a provider without a list", one(remote(models=[]), models={"fast": ["a/gpt-4"]})),
    ("fallback among real ones", two(models={"fast": ["a/x", "b/y"]})),
    (
        "fallbacks by alias, model and provider",
        one(
            remote(models=["gpt-*"]),
            models={"fast": ["a/gpt-4"]},
            failover={"models": {"fast": {"fallbacks": ["gpt-5", "a/any"]}, "gpt-6": {"fallbacks": ["fast"]}}},
        ),
    ),
    (
        "a fallback switched on for one alias",
        two(
            models={"fast": ["a/x", "b/y"]},
            enableFallbackProviders=False,
            failover={"models": {"fast": {"enabled": True}}},
        ),
    ),
    ("hedging between two", {"providers": {"a": remote(), "b": remote(models=["y"])}, "hedging": {"enabled": True}}),
    ("echo named on purpose", two(models={"try": ["e/x"]})),
    ("echo before a real one", two(models={"try": ["e/x", "a/x"]})),
    (
        "targets of two formats without fallback: each has its clients",
        {
            "providers": {"a": remote(), "b": remote(type="gemini")},
            "models": {"fast": ["a/x", "b/x"]},
            "enableFallbackProviders": False,
        },
    ),
    ("limits that fit", one(remote(maxConcurrency=100))),
    ("waiting on purpose in a provider's queue", one(remote(maxConcurrency=2, queueTimeout="5m"))),
    ("one provider without limit", {"providers": {"a": remote(maxConcurrency=2), "b": remote(models=["y"])}}),
    ("timeouts that are off", one(remote(timeouts={"total": "30s", "firstByte": "none", "idle": "none"}))),
    ("a long queue that is never used", one(remote(queueTimeout="2m", timeouts={"total": "60s"}))),
    ("plain http on this machine", one(remote(baseUrl="http://127.0.0.1:8000/v1"))),
    ("plain http without a key", one(remote(baseUrl="http://10.0.0.1:8000/v1", apiKey=""))),
    ("unchecked TLS where there is none", one(remote(baseUrl="http://127.0.0.1/v1", tls={"verify": False}))),
    ("any upstream without models", one(remote(type="http", models=[]))),
    (
        "a vendor's key in a header",
        one(remote(baseUrl="https://api.openai.com/v1", apiKey="", headers={"X-Api-Key": "k"})),
    ),
    ("an alias that names the provider of its model", two(models={"x": ["b/y", "a/x"]})),
    (
        "an alias with the name of a model of echo, which is asked only by name beside others",
        {"providers": {"a": remote(), "e": {"type": "echo", "models": ["try"]}}, "models": {"try": ["a/x"]}},
    ),
    ("weights with the balancer", {"providers": {"a": remote(weight=2), "b": remote()}}),
    (
        "weights of different priorities",
        {"providers": {"a": remote(weight=2), "b": remote(priority=1)}, "balancer": {"enabled": False}},
    ),
    ("named origins", {"server": {"allowedOrigins": ["https://a.example"]}}),
    ("a long token", {"admin": {"token": "${TOKEN}"}}),
    (
        "a disabled provider full of faults",
        {"providers": {"a": remote(), "b": remote(enabled=False, tls={"verify": False}, maxConcurrency=999)}},
    ),
]


@pytest.mark.parametrize("raw", [case[1] for case in RIGHT], ids=[case[0] for case in RIGHT])
def test_there_is_no_issue_with(raw: Raw) -> None:
    assert find_issues(facts(raw)) == []


def test_echo_that_is_not_enabled_makes_nothing_up() -> None:
    raw = {"providers": {"a": remote(), "e": {"type": "echo", "enabled": False}}, "models": {"fast": ["a/x", "e/x"]}}

    assert kinds(find_issues(facts(raw))) == [("alias_to_nothing", "models.fast.1")]


def test_patch_keeps_references_of_other_targets() -> None:
    raw = {
        "providers": {"a": remote(enabled=False), "b": remote()},
        "models": {"fast": ["${WHERE:-b}/x", "a/x"]},
    }

    (found,) = find_issues(facts(raw))

    assert found.patch == {"models": {"fast": ["${WHERE:-b}/x"]}}


def test_plain_http_hidden_in_a_reference_has_no_patch() -> None:
    raw = one(remote(baseUrl="${URL:-http://10.0.0.1/v1}"))

    (found,) = find_issues(facts(raw))

    assert (found.kind, found.patch) == ("key_over_plain_http", None)


def test_provider_without_models_of_an_unknown_vendor_says_where_to_look() -> None:
    (found,) = find_issues(facts(one(remote(models=[]))))

    assert found.kind == "provider_without_models"
    assert found.patch is None
    assert "/proxy/a/models shows what it has" in found.why


def test_weak_token_is_named_without_being_shown() -> None:
    (found,) = find_issues(facts({"admin": {"token": "short-4f9a77e1"}}))

    assert (found.kind, found.path, found.command) == ("weak_token", "admin.token", "openssl rand -hex 32")
    assert "4f9a" not in repr(found)


def test_errors_come_first_then_by_path_and_what_the_process_noticed_before_the_rest() -> None:
    raw = one(remote(tls={"verify": False}), models={"fast": ["b/x"]}, maxQueue=5)
    raw["providers"]["b"] = remote(enabled=False)
    noticed = (
        Issue("overlay_set_aside", "warning", "", "the overlay was set aside", "it no longer validates"),
        Issue("file_refused", "error", "zzz", "the file was refused", "the running one is kept"),
    )

    found = find_issues(replace(facts(raw, {**raw, "maxQueue": 6}), troubles=noticed))

    assert kinds(found) == [
        ("file_refused", "zzz"),
        ("alias_to_nothing", "models.fast.0"),
        ("overlay_set_aside", ""),
        ("tls_not_verified", "providers.a.tls.verify"),
        ("drift", "maxQueue"),
    ]


def test_issue_as_json_has_a_line_to_paste() -> None:
    patch = {"models": {"it's": None, "ü": ["a/$(x)"]}}
    issue = Issue("kind", "info", "path", "message", "why", patch=patch)

    shown = as_json(issue, "http://127.0.0.1:8080")

    assert list(shown) == ["kind", "severity", "path", "message", "why", "patch", "fix"]
    assert shown["patch"] == patch
    *words, body = shlex.split(shown["fix"])
    assert words == [
        "curl",
        "-X",
        "PATCH",
        "http://127.0.0.1:8080/config",
        "-H",
        "Content-Type: application/json",
        "-d",
    ]
    assert orjson.loads(body) == patch


def test_issue_without_patch_shows_its_command_or_nothing() -> None:
    issue = Issue("kind", "info", "path", "message", "why", command="chmod 600 a")

    assert as_json(issue, "http://a")["fix"] == "chmod 600 a"
    assert as_json(replace(issue, command=None), "http://a")["fix"] is None


def test_no_issue_shows_a_secret(tmp_path: Path) -> None:
    """All of it at once: every secret in clear, everything else wrong."""
    file = tmp_path / "a.yaml"
    file.write_text("")
    raw: Raw = {
        "server": {"allowedOrigins": ["*"], "port": 81},
        "admin": {"token": CANARY[:15]},
        "providers": {
            "a": remote(
                apiKey=CANARY,
                baseUrl="http://10.0.0.1/v1",
                headers={"X-Api-Key": CANARY, "Authorization": f"Bearer {CANARY}"},
                proxy=f"http://u:{CANARY}@proxy.example",
                maxConcurrency=200,
                timeouts={"total": 1},
            ),
            "b": remote(enabled=False, apiKey=f"${{NO:-{CANARY}}}"),
        },
        "models": {"fast": ["a/zzz", "b/x"]},
        "alerting": {"hook": CANARY},
    }
    other: Raw = orjson.loads(orjson.dumps(raw).replace(CANARY[-8:].encode(), b"77777777"))

    for base in (raw, other, {}):
        found = find_issues(facts(raw, base, file=file, running=Settings()))
        text = orjson.dumps([as_json(issue, "http://a") for issue in found]).decode()
        assert len(found) > 8
        assert CANARY[:15] not in text
        assert "77777777" not in text
