"""A short chaos run: three providers that fail at random, one of them always well."""

import os

from scripts.chaos_parts.report import misses, report
from scripts.chaos_parts.run import chaos
from scripts.chaos_parts.schedule import phases

SECONDS = float(os.environ.get("SWITCHYARD_CHAOS_SECONDS", "8"))
RATE = float(os.environ.get("SWITCHYARD_CHAOS_RATE", "80"))


async def test_clients_get_answers_as_long_as_one_provider_is_well() -> None:
    run = await chaos(seed=7, seconds=SECONDS, rate=RATE)

    print(shown := report(run))
    assert misses(run) == []
    assert abs(sum(run.sick_s.values()) - 3 * SECONDS) < 1e-6
    assert all(f"    {name} " in shown for name in run.sick_s)


def test_one_provider_is_well_at_any_time_and_never_one_that_asked_to_be_left_alone() -> None:
    for seed in range(50):
        before: tuple[bool, ...] = (False, False, False)
        for phase in phases(seed, 60.0, 3):
            assert any(one is None and not lingers for one, lingers in zip(phase.sick, before, strict=True))
            before = tuple(one is not None and one.lingers for one in phase.sick)


def test_same_seed_is_the_same_run() -> None:
    assert list(phases(3, 60.0, 3)) == list(phases(3, 60.0, 3)) != list(phases(4, 60.0, 3))
