"""What one request may cost: the general settings, and what single models do otherwise."""

from proxy.config.models import Settings
from proxy.routing.policy import Policies


def policies(**settings: object) -> Policies:
    return Policies(Settings.model_validate(settings))


def test_defaults_take_everything_elsewhere_but_what_the_request_itself_is_refused_for() -> None:
    policy = policies().of("any")

    assert policy.is_failover_on
    assert policy.kinds.isdisjoint({"content-refused", "not-found"})
    assert {"connect", "timeout", "rate-limit", "server-error", "context-length"} <= policy.kinds
    assert (policy.attempts, policy.after_execution, policy.fallbacks) == (4, True, ())


def test_model_does_what_it_says_and_otherwise_as_all_others() -> None:
    found = policies(
        failover={
            "attempts": 3,
            "deadline": "30s",
            "models": {"fast": {"enabled": False, "on": ["connect"], "fallbacks": ["slow"]}, "slow": {"attempts": 1}},
        }
    )

    fast, slow, other = found.of("fast"), found.of("slow"), found.of(None)

    assert (fast.is_failover_on, fast.kinds, fast.fallbacks) == (False, frozenset({"connect"}), ("slow",))
    assert (fast.attempts, fast.deadline_s) == (3, 30.0)
    assert (slow.is_failover_on, slow.attempts) == (True, 1)
    assert other is found.general


def test_switch_for_all_can_be_overruled_for_one() -> None:
    found = policies(enableFallbackProviders=False, failover={"models": {"fast": {"enabled": True}}})

    assert (found.of("any").is_failover_on, found.of("fast").is_failover_on) == (False, True)
