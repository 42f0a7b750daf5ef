"""All virtual keys of a proxy, and how one is found by what a client shows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import Literal

from plugins.keys.account import Account, Budget, Spent, to_nanos
from plugins.keys.limits import allowances
from plugins.keys.patterns import ModelRule
from plugins.keys.settings import KeySettings
from proxy.callers import Identity

State = Literal["active", "disabled", "expired"]


@dataclass(frozen=True, slots=True)
class Earlier:
    """The key before the last rotation, while it still works: what is kept of it, and until when."""

    digest: bytes
    until_s: float


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A key; a change makes another one with the same account. Times are seconds since 1970.

    Args:
        digest: what is kept of its text.
    """

    id: str
    digest: bytes
    settings: KeySettings
    created_s: float
    rotated_s: float | None = None
    earlier: Earlier | None = None
    account: Account = field(default_factory=lambda: Account(Spent()), compare=False)
    identity: Identity = field(init=False, compare=False)
    rule: ModelRule | None = field(init=False, compare=False)
    """None: all models."""
    budget: Budget = field(init=False, compare=False)
    document: Mapping[str, object] = field(init=False, compare=False, repr=False)
    """The settings as JSON."""

    def __post_init__(self) -> None:
        settings = self.settings
        rule = ModelRule(settings.models) if settings.models else None
        may_use = None if rule is None else rule.allows
        identity = Identity(self.id, settings.name, allowances(settings.limits), dict(settings.metadata), may_use)
        object.__setattr__(self, "identity", identity)  # derived once: requests read them, changes are rare
        object.__setattr__(self, "rule", rule)
        budget = settings.budget
        amounts = (None if usd is None else to_nanos(usd) for usd in (budget.per_day, budget.per_month))
        object.__setattr__(self, "budget", Budget(*amounts))
        object.__setattr__(self, "document", settings.as_json())

    def state_at(self, now_s: float) -> State:
        """Tell whether it works."""
        settings = self.settings
        if settings.expires_at is not None and now_s >= settings.expires_at:
            return "expired"
        return "active" if settings.enabled else "disabled"

    def with_settings(self, settings: KeySettings) -> "VirtualKey":
        """Give it other settings; what it has spent stays."""
        return replace(self, settings=settings)

    def rotated(self, digest: bytes, grace_s: float, now_s: float) -> "VirtualKey":
        """Give it another text; the present one works on for `grace_s`, an earlier one no more."""
        earlier = Earlier(self.digest, now_s + grace_s) if grace_s > 0 else None
        return replace(self, digest=digest, rotated_s=now_s, earlier=earlier)


class Book:
    """Finds keys by what is kept of them: a look-up by digest, which nobody can steer towards a near miss."""

    def __init__(self, keys: Iterable[VirtualKey] = ()) -> None:
        self._by_id: dict[str, VirtualKey] = {}
        self._by_digest: dict[bytes, VirtualKey] = {}
        for key in keys:
            self.put(key)

    def __iter__(self) -> Iterator[VirtualKey]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, key_id: str) -> VirtualKey | None:
        """Find a key by its id."""
        return self._by_id.get(key_id)

    def named(self, name: str) -> VirtualKey | None:
        """Find a key by its name."""
        return next((key for key in self._by_id.values() if key.settings.name == name), None)

    def called(self, text: str) -> VirtualKey | None:
        """Find a key by its id or, for people, by its name, which no other key has."""
        return self.get(text) or self.named(text)

    def find(self, digest: bytes, now_s: float) -> VirtualKey | None:
        """Find the key that a client shows, also one that was rotated while its grace lasts; None if it is no key."""
        key = self._by_digest.get(digest)
        if key is None:
            return None
        if compare_digest(digest, key.digest):
            return key
        earlier = key.earlier
        if earlier is None or not compare_digest(digest, earlier.digest) or now_s >= earlier.until_s:
            return None
        return key

    def put(self, key: VirtualKey) -> None:
        """Add a key, or put it in the place of the one with the same id."""
        self.remove(key.id)
        self._by_id[key.id] = key
        for digest in _digests(key):
            self._by_digest[digest] = key

    def remove(self, key_id: str) -> VirtualKey | None:
        """Take a key away; it is found no more. Gives it, None if there was none."""
        key = self._by_id.pop(key_id, None)
        if key is not None:
            for digest in _digests(key):
                self._by_digest.pop(digest, None)
        return key


def _digests(key: VirtualKey) -> tuple[bytes, ...]:
    return (key.digest,) if key.earlier is None else (key.digest, key.earlier.digest)
