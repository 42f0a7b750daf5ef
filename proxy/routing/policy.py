"""How far one request may be taken: what the settings say for all models, and for single ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.config.models import Settings
from proxy.config.routing_models import FailoverSettings, ModelFailoverSettings
from proxy.errors import FailureKind


@dataclass(frozen=True, slots=True)
class Policy:
    """What one request may cost.

    Args:
        is_failover_on: other providers and fallback models may be asked.
        kinds: failures after which somebody else is asked.
        fallbacks: names of models that are asked after all who have the model itself.
    """

    is_failover_on: bool
    kinds: frozenset[FailureKind]
    after_execution: bool
    attempts: int
    deadline_s: float
    backoff_s: float
    max_wait_s: float
    fallbacks: tuple[str, ...] = ()


class Policies:
    """The policies of one revision of the configuration."""

    def __init__(self, settings: Settings) -> None:
        failover = settings.failover
        self.general = _policy(failover, settings.enable_fallback_providers, ModelFailoverSettings())
        self._by_model: Mapping[str, Policy] = {
            name: _policy(failover, settings.enable_fallback_providers, own) for name, own in failover.models.items()
        }

    def of(self, model: str | None) -> Policy:
        """Give the policy for a model as the client names it."""
        return self._by_model.get(model, self.general) if model is not None else self.general


def _policy(general: FailoverSettings, is_on: bool, own: ModelFailoverSettings) -> Policy:
    return Policy(
        is_failover_on=is_on if own.enabled is None else own.enabled,
        kinds=frozenset(general.on if own.on is None else own.on),
        after_execution=general.after_execution,
        attempts=general.attempts if own.attempts is None else own.attempts,
        deadline_s=general.deadline if own.deadline is None else own.deadline,
        backoff_s=general.backoff,
        max_wait_s=general.max_wait,
        fallbacks=own.fallbacks,
    )
