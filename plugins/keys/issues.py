"""What of the keys an operator should look at."""

from collections.abc import Collection, Iterator
from typing import Final

from plugins.keys.keeper import Keeper
from proxy.plugin import Issue

SOON_S: Final = 7 * 86_400.0


def key_issues(keeper: Keeper, unpriced: Collection[str], unheld: Collection[str], now_s: float) -> Iterator[Issue]:
    """List what is worth telling.

    Args:
        unpriced: models, as `provider/model`, that keys with a budget have used and whose price is not known.
        unheld: ids of keys with limits that nobody held when they were used last.
    """
    if keeper.trouble is not None:
        yield Issue("keys_unusable", "error", "keys.enabled", keeper.trouble, "every request is refused with 503")
        return
    if not len(keeper.book):
        yield Issue(
            "no_keys",
            "error",
            "keys.enabled",
            "virtual keys are asked for, and there is none",
            "every request is refused with 401",
            command="python -m proxy keys create NAME",
        )
    if unpriced:
        yield Issue(
            "key_budget_without_price",
            "warning",
            "providers",
            f"keys with a budget have used models without a price: {', '.join(sorted(unpriced)[:10])}",
            "what they cost counts nothing, so that the budget does not hold them; set prices of their providers",
        )
    if names := sorted(f"{key.settings.name} ({key.id})" for key in keeper.book if key.id in unheld):
        yield Issue(
            "key_limits_unheld",
            "error",
            "plugins",
            f"keys with limits are used, and nobody holds their limits: {', '.join(names[:10])}",
            "they ask for as much as they like; rate_limit holds them where it is on and stands after keys in plugins",
        )
    for key in keeper.book:
        expires_s = key.settings.expires_at
        if key.state_at(now_s) == "active" and expires_s is not None and expires_s - now_s < SOON_S:
            yield Issue(
                "key_expires_soon",
                "info",
                "",
                f"the key {key.settings.name} ({key.id}) expires within a week",
                f"its requests are refused with 401 from then on; PATCH /keys/{key.id} gives it longer",
            )
