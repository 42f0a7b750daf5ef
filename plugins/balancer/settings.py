"""Section `balancer`: who is asked first, in general, for single models, and where a route says otherwise."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from proxy.plugin import PluginConfig, Section
from proxy.values import Size

Strategy = Literal["priority", "round-robin", "least-in-flight", "latency", "cost", "random"]

Affinity = Literal["none", "header", "prompt"]

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]

SESSION_HEADER = "X-Session-Id"


class ModelBalancing(Section):
    """What one alias or model does otherwise."""

    strategy: Strategy | None = Field(None, description="Instead of `balancer.strategy`.")
    affinity: Affinity | None = Field(None, description="Instead of `balancer.affinity`.")
    ignore_priority: bool = Field(
        False,
        description="Whether all who have it count as of one priority; the targets of an alias, which are tried in "
        "order, share the work only so.",
    )


class RouteCondition(Section):
    """What a request must be for a route to be taken; all that is given must hold."""

    model: str = Field("*", description='Pattern of the model as the client names it; "*" and "?" are wildcards.')
    header: dict[HeaderName, str] = Field(
        default_factory=dict, description="Patterns of headers the request must have, by name; all must fit."
    )
    key: SecretStr | None = Field(None, description="The key the client shows, usually `${ENV}`.")
    min_size: Size = Field(0, description="Smallest request body, in bytes.")
    max_size: Size | None = Field(None, description="Largest request body, in bytes; unset: any.")

    @field_validator("key")
    @classmethod
    def _can_be_shown(cls, key: SecretStr | None) -> SecretStr | None:
        text = "" if key is None else key.get_secret_value()
        if not all("!" <= each <= "~" for each in text):
            raise ValueError("a key is one line of visible ASCII characters without spaces")
        return key

    @model_validator(mode="after")
    def _has_sizes_between(self) -> "RouteCondition":
        if self.max_size is not None and self.min_size > self.max_size:
            raise ValueError(f"minSize ({self.min_size} bytes) is above maxSize ({self.max_size} bytes)")
        return self


class RouteSettings(Section):
    """Who is asked when a condition holds."""

    when: RouteCondition = Field(default_factory=RouteCondition, description="When it is taken; unset: always.")
    use: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, description="Who is asked, `provider` or `provider/model`, in this order."
    )
    strategy: Strategy | None = Field(
        None, description="How those of `use` share the work, whatever their priorities; unset: in the order given."
    )
    or_else: bool = Field(False, description="Whether all others who have the model come behind them.")


class BalancerConfig(PluginConfig):
    """Section `balancer`."""

    strategy: Strategy = Field(
        "priority", description="How the providers of one priority share the work; a lower one is always tried first."
    )
    affinity: Affinity = Field(
        "none",
        description="What keeps a session at one provider: a header, or the beginning of its prompt; none: nothing.",
    )
    affinity_header: HeaderName = Field(
        SESSION_HEADER, description="Header whose value names the session, with affinity header."
    )
    models: dict[str, ModelBalancing] = Field(
        default_factory=dict, description="What single aliases or models do otherwise, by the name clients use."
    )
    routes: tuple[RouteSettings, ...] = Field(
        (), description="Who is asked for certain requests: the first route that fits is taken."
    )
