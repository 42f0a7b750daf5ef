"""Which providers have the model a client names."""

import pytest

from proxy.config.models import Settings
from proxy.errors import TranslationUnsupported, UnknownModel
from proxy.providers.registry import make_providers
from proxy.routing.candidates import MAX_KNOWN, MAX_MODEL_CHARS, Candidates

NATIVE = frozenset({"openai", "anthropic", "gemini", "ollama"})


def provider(kind: str, *models: str, **more: object) -> dict[str, object]:
    section: dict[str, object] = {"type": kind, "models": list(models), **more}
    return section if kind == "echo" else {"baseUrl": f"https://{kind}.test", **section}


def make(models: dict[str, list[str]] | None = None, **providers: dict[str, object]) -> Candidates:
    settings = Settings.model_validate({"providers": providers, "models": models or {}})
    return Candidates(settings, make_providers(settings, lambda _: ()))


def names(candidates: Candidates, model: str, format_name: str = "openai") -> list[tuple[str, str | None]]:
    return [(one.provider, one.model) for one in candidates.find(model, format_name)]


# -- finding --------------------------------------------------------------------------------------------------------


def test_exact_names_and_patterns_are_found_in_the_order_of_priority() -> None:
    candidates = make(
        late=provider("openai", "gpt-4o", priority=5),
        early=provider("openai", "gpt-*", priority=1, weight=3),
        other=provider("openai", "o?"),
    )

    found = candidates.find("gpt-4o", "openai")

    assert [(one.provider, one.model, one.priority, one.weight) for one in found] == [
        ("early", "gpt-4o", 1, 3.0),
        ("late", "gpt-4o", 5, 1.0),
    ]
    assert names(candidates, "o3") == [("other", "o3")]


def test_alias_stands_for_its_targets_in_their_order() -> None:
    candidates = make(
        {"fast": ["b/small", "a/mini"]}, a=provider("openai", "*", priority=0), b=provider("openai", priority=9)
    )

    found = candidates.find("fast", "openai")

    assert [(one.provider, one.model, one.priority) for one in found] == [("b", "small", 0), ("a", "mini", 1)]


def test_alias_goes_before_a_pattern_of_the_same_name() -> None:
    candidates = make({"gpt-4o": ["b/llama"]}, a=provider("openai", "gpt-*"), b=provider("openai"))

    assert names(candidates, "gpt-4o") == [("b", "llama")]


def test_provider_and_model_need_no_pattern() -> None:
    candidates = make(a=provider("openai", "gpt-*"), b=provider("openai", "gpt-*"))

    assert names(candidates, "b/anything/at:all") == [("b", "anything/at:all")]


def test_slash_in_a_model_name_is_no_provider_unless_one_is_called_so() -> None:
    candidates = make(router=provider("openai", "meta/*"))

    assert names(candidates, "meta/llama-3") == [("router", "meta/llama-3")]


@pytest.mark.parametrize("model", ["a/", "/gpt-4o", "/", ""])
def test_half_a_name_is_unknown(model: str) -> None:
    candidates = make(a=provider("openai", "gpt-*"))

    with pytest.raises(UnknownModel):
        candidates.find(model, "openai")


def test_disabled_provider_is_not_found() -> None:
    candidates = make(a=provider("openai", "gpt-*", enabled=False), b=provider("openai", "gpt-*"))

    assert names(candidates, "gpt-4o") == [("b", "gpt-4o")]
    with pytest.raises(UnknownModel):
        candidates.find("a/gpt-4o", "openai")


def test_case_counts() -> None:
    candidates = make(a=provider("openai", "gpt-*"))

    with pytest.raises(UnknownModel):
        candidates.find("GPT-4o", "openai")


# -- echo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", ["openai", "anthropic", "gemini", "ollama", "native"])
def test_echo_alone_has_every_model(format_name: str) -> None:
    candidates = make(echo=provider("echo", "*"))

    assert names(candidates, "gpt-4o", format_name) == [("echo", "gpt-4o")]


def test_echo_never_stands_in_for_a_real_provider() -> None:
    candidates = make(echo=provider("echo", "*"), real=provider("openai", "gpt-*", priority=9))

    assert names(candidates, "gpt-4o") == [("real", "gpt-4o")]


def test_mistyped_model_never_gets_an_echo() -> None:
    candidates = make(echo=provider("echo", "*"), real=provider("openai", "gpt-*"))

    with pytest.raises(UnknownModel):
        candidates.find("gtp-4o", "openai")


def test_disabled_real_provider_leaves_echo_alone() -> None:
    candidates = make(echo=provider("echo", "*"), real=provider("openai", "gpt-*", enabled=False))

    assert names(candidates, "gpt-4o") == [("echo", "gpt-4o")]


def test_alias_or_full_name_may_ask_for_echo_beside_others() -> None:
    candidates = make({"test": ["echo/any"]}, echo=provider("echo", "*"), real=provider("openai", "*"))

    assert names(candidates, "test") == [("echo", "any")]
    assert names(candidates, "echo/x") == [("echo", "x")]


def test_path_without_a_model_goes_to_echo_only_while_nobody_else_is_there() -> None:
    alone = make(echo=provider("echo", "*"))
    beside = make(echo=provider("echo", "*"), real=provider("openai", priority=9))
    foreign = make(echo=provider("echo", "*"), real=provider("anthropic"))

    assert [one.provider for one in alone.default("openai")] == ["echo"]
    assert [one.provider for one in beside.default("openai")] == ["real"]
    with pytest.raises(UnknownModel):
        foreign.default("openai")


# -- who cannot -----------------------------------------------------------------------------------------------------


def test_unknown_model_is_answered_with_the_models_there_are() -> None:
    candidates = make({"fast": ["a/x"]}, a=provider("openai", "gpt-*", "o3"), b=provider("anthropic", "claude-*"))

    with pytest.raises(UnknownModel, match=r"'nope'; there are fast, gpt-\*, o3, claude-\*$") as raised:
        candidates.find("nope", "openai")
    assert (raised.value.status, raised.value.code) == (404, "model_not_found")


def test_long_list_of_models_is_cut_in_the_message() -> None:
    candidates = make(a=provider("openai", *(f"model-{i}" for i in range(500))))

    with pytest.raises(UnknownModel, match="model-19 and 480 more"):
        candidates.find("nope", "openai")


def test_no_models_at_all_is_said_with_what_to_do() -> None:
    candidates = make(a=provider("openai"))

    with pytest.raises(UnknownModel, match="use provider/model"):
        candidates.find("gpt-4o", "openai")


@pytest.mark.parametrize(
    ("kind", "asked"), [("anthropic", "openai"), ("openai", "anthropic"), ("gemini", "ollama"), ("ollama", "gemini")]
)
def test_model_of_another_format_is_501_naming_both(kind: str, asked: str) -> None:
    candidates = make(a=provider(kind, "m"))

    with pytest.raises(TranslationUnsupported, match=f"{kind} format, and this path speaks {asked}") as raised:
        candidates.find("m", asked)
    assert raised.value.status == 501


def test_provider_of_the_right_format_is_found_beside_one_of_another() -> None:
    candidates = make(a=provider("anthropic", "m"), b=provider("openai", "m", priority=9))

    assert names(candidates, "m") == [("b", "m")]


def test_native_path_takes_any_format_it_can_be_translated_to() -> None:
    candidates = make(a=provider("anthropic", "m"), b=provider("http", "m"))

    found = candidates.find("m", "native", NATIVE)

    assert [one.provider for one in found] == ["a"]


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_asking_for_ever_new_models_does_not_grow_memory() -> None:
    candidates = make(echo=provider("echo", "*"))

    for number in range(3 * MAX_KNOWN):
        candidates.find(f"model-{number}", "openai")

    assert len(candidates._known) <= MAX_KNOWN


def test_name_too_long_to_be_a_model_is_unknown_without_being_matched_or_kept() -> None:
    candidates = make(echo=provider("echo", "*"))

    longest = candidates.find("m" * MAX_MODEL_CHARS, "openai")

    assert longest[0].provider == "echo"
    with pytest.raises(UnknownModel) as raised:
        candidates.find("m" * (MAX_MODEL_CHARS + 1), "openai")
    assert len(raised.value.message) < 400


# -- lists ----------------------------------------------------------------------------------------------------------


def test_list_of_models_has_what_a_client_of_the_format_can_ask_for_by_name() -> None:
    candidates = make(
        {"fast": ["a/x"]},
        a=provider("openai", "gpt-*", "o3"),
        b=provider("anthropic", "claude"),
        c=provider("echo", "*"),
    )

    assert candidates.exact_names("openai") == ["fast", "o3"]
    assert candidates.exact_names("anthropic") == ["fast", "claude"]


def test_echo_alone_is_listed_and_is_the_model_of_those_who_name_none() -> None:
    candidates = make(echo=provider("echo", "*"))

    assert candidates.exact_names("openai") == ["echo"]
    assert candidates.first_model() == "echo"


def test_first_exact_model_is_for_those_who_name_none() -> None:
    candidates = make(a=provider("openai", "gpt-*"), b=provider("openai", "x-*", "o3"))

    assert candidates.first_model() == "o3"
    assert make(a=provider("openai", "gpt-*")).first_model() is None


# -- why not --------------------------------------------------------------------------------------------------------


def test_each_other_provider_is_told_why_it_has_no_part() -> None:
    candidates = make(
        {"fast": ["a/m"]},
        a=provider("openai", "m"),
        claude=provider("anthropic", "*"),
        other=provider("openai", "x", "y"),
        raw=provider("openai"),
        off=provider("openai", "n", enabled=False),
        echo=provider("echo", "*"),
    )

    by_name = candidates.passed_over("m", "openai")

    assert by_name == {
        "claude": "it speaks the anthropic format, and openai is not translated to it",
        "other": "none of its models fits: x, y",
        "raw": "providers.raw.models is empty: only an alias, or raw/…, leads to it",
        "echo": "echo stands in for nobody: an alias, or echo/…, has to name it",
        "off": "providers.off.enabled is false",
    }
    assert candidates.passed_over("fast", "openai")["other"] == "the alias 'fast' does not name it"
    assert candidates.passed_over("a/z", "openai")["other"] == "the request names another provider"
    assert "claude" not in candidates.passed_over("m", "native", NATIVE)


def test_disabled_providers_that_would_be_asked_are_listed_apart() -> None:
    candidates = make(
        {"fast": ["off/x", "a/m"], "slow": ["a/m"]},
        a=provider("openai", "m"),
        off=provider("openai", "m", "gpt-*", enabled=False, priority=3, weight=2),
        raw=provider("http", "m", enabled=False),
    )

    def listed(model: str) -> list[tuple[str, str | None, int, float]]:
        return [(one.provider, one.model, one.priority, one.weight) for one in candidates.disabled(model)]

    assert listed("m") == [("off", "m", 3, 2.0)]
    assert listed("gpt-4o") == [("off", "gpt-4o", 3, 2.0)]
    assert listed("fast") == [("off", "x", 0, 2.0)]
    assert listed("off/any") == [("off", "any", 0, 2.0)]
    assert listed("slow") == listed("o3") == listed("raw/m") == listed("g" * (MAX_MODEL_CHARS + 1)) == []
    assert candidates.passed_over("m", "openai") == {"raw": "providers.raw.enabled is false"}
    assert candidates.passed_over("gpt-4o", "openai") == {
        "a": "none of its models fits: m",
        "raw": "providers.raw.enabled is false",
    }
