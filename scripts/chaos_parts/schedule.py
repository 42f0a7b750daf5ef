"""Who is sick when, and with what: drawn from a seed, always with one provider that is well."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from proxy.testing import FakeProvider, Fault, FaultProxy

SHORTEST_S, LONGEST_S = 1.5, 4.0
"""Of a phase."""
WELL_SHARE = 0.5
"""Of the providers that need not be well in a phase, so many are all the same."""


@dataclass(frozen=True, slots=True)
class Sickness:
    """A way of being unwell.

    Args:
        begin: makes a provider sick; `cure` makes any well again.
        lingers: it has told clients to stay away for a while, so it is not counted on in the next phase either.
    """

    name: str
    begin: Callable[[FakeProvider, FaultProxy], None]
    lingers: bool = False


def _status(status: int, headers: dict[str, str] | None = None) -> Callable[[FakeProvider, FaultProxy], None]:
    return lambda provider, faulty: provider.reply_status(status, headers=headers)


SICKNESSES = (
    Sickness("refuses connections", lambda provider, faulty: faulty.set(Fault.refuse())),
    Sickness("never accepts", lambda provider, faulty: faulty.set(Fault.blackhole())),
    Sickness("resets before a byte", lambda provider, faulty: faulty.set(Fault.reset())),
    Sickness("resets half of all", lambda provider, faulty: faulty.mix({Fault.reset(): 0.5})),
    Sickness("stalls before a byte", lambda provider, faulty: faulty.set(Fault.stall())),
    Sickness("cuts the head", lambda provider, faulty: faulty.set(Fault.truncate(20))),
    Sickness("says 503", _status(503)),
    Sickness("says 500", _status(500)),
    Sickness("says 529", _status(529)),
    Sickness("says 429", _status(429)),
    Sickness("says 429, come in 1 s", _status(429, {"retry-after": "1"}), lingers=True),
    Sickness("says 401", _status(401)),
    Sickness("breaks off a tenth", lambda provider, faulty: faulty.mix({Fault.reset(range(300, 900)): 0.1})),
    Sickness("is slow", lambda provider, faulty: faulty.set(Fault.delay(0.15))),
)


def cure(provider: FakeProvider, faulty: FaultProxy) -> None:
    """Make a provider well."""
    provider.reply("All is well with this provider, and here is the answer.")
    faulty.clear()


@dataclass(frozen=True, slots=True)
class Phase:
    """A span of time with who is sick in it: a sickness or None by provider."""

    begin_s: float
    sick: tuple[Sickness | None, ...]


def phases(seed: int, seconds: float, providers: int) -> Iterator[Phase]:
    """Draw the phases of a run; in each at least one provider is well."""
    random = Random(seed)
    begin_s = 0.0
    sick: tuple[Sickness | None, ...] = (None,) * providers
    while begin_s < seconds:
        well = random.choice([index for index, one in enumerate(sick) if one is None or not one.lingers])
        sick = tuple(
            None if index == well or random.random() < WELL_SHARE else random.choice(SICKNESSES)
            for index in range(providers)
        )
        yield Phase(begin_s, sick)
        begin_s += random.uniform(SHORTEST_S, LONGEST_S)


def apply(phase: Phase, providers: Sequence[FakeProvider], faulty: Sequence[FaultProxy]) -> None:
    """Let a phase begin."""
    for sickness, provider, between in zip(phase.sick, providers, faulty, strict=True):
        cure(provider, between)
        if sickness is not None:
            sickness.begin(provider, between)
