"""Tokens as providers count them, and what they cost."""

from dataclasses import dataclass


@dataclass(slots=True)
class Usage:
    """Tokens of one exchange as the provider counted them; None where it did not say.

    `input_tokens` includes what was read from and written to the provider's prompt cache, `output_tokens` includes
    reasoning, as in OpenTelemetry's GenAI conventions.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input plus output, None if either is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Price:
    """What tokens cost, in US dollars for a million."""

    input_usd: float
    output_usd: float

    def cost_usd(self, usage: Usage) -> float:
        """Tell what an exchange cost, in US dollars; tokens nobody counted cost nothing."""
        return ((usage.input_tokens or 0) * self.input_usd + (usage.output_tokens or 0) * self.output_usd) / 1e6
