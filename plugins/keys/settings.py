"""Section `keys`, and the settings of a single key as operators send and read them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from plugins.keys.limits import NAME
from proxy.plugin import PluginConfig, Section
from proxy.values import EPOCH, LATEST_S, Duration, timestamp

MOST_METADATA: Final = 32
LONGEST_METADATA: Final = 512
LONGEST_NAME: Final = 100
LONGEST_PATTERN: Final = 256
LEAST_USD: Final = 1e-6
MOST_USD: Final = 1e9
MOST_COUNTED: Final = 1e12
"""In one limit; what holds limits tells clients of them in headers, whose numbers end at 15 digits."""


class KeysConfig(PluginConfig):
    """Section `keys`."""

    enabled: bool = Field(False, description="Whether requests need a virtual key; then no other passes.")
    save_every: Duration = Field(
        5.0, gt=0, description="How often what keys have spent is written down, in seconds; a kill loses no more."
    )
    estimated_output: int = Field(
        1000, ge=0, description="Output tokens that are held of a budget for a request that sets no limit itself."
    )
    unmeasured: Literal["refuse", "allow"] = Field(
        "refuse",
        description="What a key with `models` or a budget gets on paths whose model or usage is not read: raw paths, "
        "uploads.",
    )


def _plain(text: str) -> str:
    """Take what is fit for one line of a terminal. Raises ValueError."""
    if not text.isprintable() or text != text.strip():
        raise ValueError("it is one line of printable characters, without spaces around it")
    return text


def _moment(value: object) -> float | None:
    """Read a time. Raises ValueError."""
    if value is None:
        return None
    moment_s = value if isinstance(value, float) else _moment_of_text(value)
    if not 0 <= moment_s <= LATEST_S:
        raise ValueError("a time is one from 1970 to 9999")
    return round(moment_s, 3)  # as it is written down


def _moment_of_text(value: object) -> float:
    """Read a time as people write it. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError('a time is written like "2026-01-31T14:00:00Z", with its zone')
    return (moment - EPOCH).total_seconds()


def _limits(limits: Mapping[str, float]) -> Mapping[str, float]:
    """Take limits whose names say what they count. Raises ValueError."""
    for name, amount in limits.items():
        if not NAME.fullmatch(name):
            known = "requests, inputTokens, outputTokens, totalTokens or costUsd, each PerSecond, PerMinute, PerHour"
            raise ValueError(f"{name[:64]!a} is no limit: there are {known} or PerDay, and concurrent")
        if not name.startswith("costUsd"):
            if amount % 1:
                raise ValueError(f"{name} is {amount:g}: a whole number is needed")
        elif not LEAST_USD <= amount <= MOST_USD:
            raise ValueError(f"{name} is {amount:g}: US dollars, from a millionth to a billion")
    return limits


Amount = Annotated[float, Field(gt=0, le=MOST_COUNTED, allow_inf_nan=False, strict=True)]
Usd = Annotated[float, Field(ge=LEAST_USD, le=MOST_USD, allow_inf_nan=False, strict=True)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_plain)]
Pattern = Annotated[str, Field(min_length=1, max_length=LONGEST_PATTERN), AfterValidator(_plain)]
MetadataName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_plain)]
MetadataValue = Annotated[str, Field(max_length=LONGEST_METADATA)]


class BudgetSettings(Section):
    """How much a key may spend, in US dollars."""

    per_day: Usd | None = Field(None, description="In one calendar day, UTC.")
    per_month: Usd | None = Field(None, description="In one calendar month, UTC.")


class KeySettings(Section):
    """What an operator says of a key."""

    name: Name = Field(description="For people; no two keys have the same.")
    models: tuple[Pattern, ...] = Field(
        (), max_length=1000, description="Patterns of the models it may use, as clients write them; none: all."
    )
    limits: Annotated[dict[str, Amount], AfterValidator(_limits)] = Field(
        default_factory=dict, description="Such as `requestsPerMinute: 60`; held by the plugin `rate_limit`."
    )
    budget: BudgetSettings = Field(default_factory=BudgetSettings, description="What it may spend.")
    metadata: dict[MetadataName, MetadataValue] = Field(
        default_factory=dict, max_length=MOST_METADATA, description="Whatever is worth noting; not secret."
    )
    expires_at: Annotated[float | None, BeforeValidator(_moment)] = Field(
        None, description="From then on it is refused; null: never."
    )
    enabled: bool = Field(True, description="Whether it works at all.")

    def as_json(self) -> dict[str, object]:
        """Write them as they are read."""
        document = self.model_dump(by_alias=True)
        document["models"] = list(self.models)
        expires_s = self.expires_at
        document["expiresAt"] = None if expires_s is None else timestamp(expires_s, is_exact=expires_s % 1 > 0)
        return document
