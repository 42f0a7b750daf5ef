"""Section `cache`: which answers are kept, for how long, for whom, and how they are given again."""

from typing import Annotated, Literal

from pydantic import Field

from proxy.plugin import PluginConfig, Section
from proxy.values import Duration, Size

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


class SmartSettings(Section):
    """How `smartCache` decides."""

    min_ttl: Duration = Field(60.0, gt=0, description="Shortest time an answer is fresh.")
    max_ttl: Duration = Field(86_400.0, gt=0, description="Longest time an answer is fresh.")
    second_usd: float = Field(
        0.0001,
        ge=0,
        allow_inf_nan=False,
        description="What it is worth, in dollars, that a client waits a second less.",
    )
    allow_random: bool = Field(
        False,
        description="Whether answers are kept that another call would give differently: no temperature 0, no seed.",
    )


class CacheConfig(PluginConfig):
    """Section `cache`."""

    enabled: bool = Field(False, description="Whether answers are kept and given again.")
    size: int = Field(1000, ge=0, description="Most answers that are kept.")
    max_bytes: Size = Field(64 << 20, description="Most memory for all answers together.")
    ttl: Duration = Field(3600.0, description="How long an answer is fresh.")
    smart_cache: bool = Field(
        False, description="Whether what is kept, and for how long, follows what is asked again and what it costs."
    )
    smart: SmartSettings = Field(default_factory=SmartSettings, description="How `smartCache` decides.")
    partition: Literal["caller", "shared"] = Field(
        "caller", description="caller: nobody gets an answer that another credential paid for; shared: all share."
    )
    max_entry: Size = Field(1 << 20, description="Largest answer that is kept.")
    tool_calls: bool = Field(False, description="Whether answers that call tools are kept.")
    headers: tuple[HeaderName, ...] = Field(
        (), description="Request headers that make another question, besides those that vendors read."
    )
    ignore: tuple[str, ...] = Field(
        (), description='Top-level fields of the body that make no difference, such as "user".'
    )
    coalesce: bool = Field(True, description="Whether the same question, asked again meanwhile, waits for one answer.")
    coalesce_wait: Duration = Field(
        60.0, gt=0, description="How long such a request waits for the answer to begin before it asks for itself."
    )
    stale_while_revalidate: Duration = Field(
        0.0, description="After the ttl: how long the old answer is given at once while a new one is fetched."
    )
    stale_if_error: Duration = Field(
        0.0, description="After the ttl: how long the old answer is given when no provider answers."
    )
    replay: Literal["instant", "paced"] = Field(
        "instant", description="instant: a stream comes again at once; paced: as it came, up to `replayCap` a pause."
    )
    replay_cap: Duration = Field(0.05, description="Longest pause between two parts of a paced replay.")
    client_control: bool = Field(
        True, description="Whether Cache-Control, X-Cache-TTL and X-Cache-Salt of clients are heeded."
    )
    store: Literal["memory", "shared"] = Field(
        "memory", description="memory: in this process; shared: in the Redis or Valkey of section `store`."
    )
