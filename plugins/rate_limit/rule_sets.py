"""Which rules hold for whom: those of everybody, of callers who have them otherwise, and of virtual keys."""

from collections.abc import Iterable, Sequence

from plugins.rate_limit.partition import Partitions
from plugins.rate_limit.plain import PlainRules
from plugins.rate_limit.room import Room, Table
from plugins.rate_limit.rules import Identity, Rule, RuleSpec, allowance_specs, listed_specs, simple_specs
from plugins.rate_limit.settings import OF_KEYS, CallerSettings, RateLimitConfig
from plugins.rate_limit.told import policy_line
from proxy.callers import Allowance
from proxy.exchange import Exchange
from proxy.metrics import Counter

MOST_KNOWN = 10_000
"""Callers for whom it is remembered which rules hold."""


class RuleSet:
    """The rules that hold for a request.

    Attributes:
        policy: the header line that tells of them.
        plain: the same for the hot path, if they are plain.
    """

    __slots__ = ("plain", "policy", "rules")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.policy = policy_line(self.rules)
        self.plain = PlainRules(self.policy, self.rules) if PlainRules.fit(self.rules) else None


class Tables:
    """The tables of all rules, each kept as long as its rule is there, whatever else changes of it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._tables: dict[Identity, Table] = {}

    def of(self, spec: RuleSpec) -> Table:
        """Give the table of a rule."""
        table = self._tables.get(spec.identity)
        if table is None:
            table = self._tables[spec.identity] = self.room.table()
        return table

    def keep(self, identities: set[Identity]) -> None:
        """Forget the tables of all other rules, but of those that come with virtual keys."""
        gone = [each for each in self._tables if each not in identities and not each[0].startswith(OF_KEYS)]
        for identity in gone:
            self.room.close(self._tables.pop(identity))


class RuleSets:
    """The rules of one revision of the settings. The sets of single callers are made when one of them comes."""

    def __init__(self, config: RateLimitConfig, tables: Tables, partitions: Partitions, decisions: Counter) -> None:
        self._config = config
        self._tables = tables
        self._partitions = partitions
        self._decisions = decisions
        self._simple = simple_specs(config)
        self._listed = listed_specs(config)
        self.general = self._make([*self._simple, *self._listed])
        """For everybody who has nothing of their own."""
        self._callers = config.callers
        self._known: dict[tuple[str, tuple[Allowance, ...] | None], RuleSet] = {}

    @property
    def identities(self) -> set[Identity]:
        """All rules of the settings, also those that only single callers have."""
        specs = [*self._simple, *self._listed]
        for caller in self._callers.values():
            specs += simple_specs(self._config, caller)
        return {spec.identity for spec in specs}

    def of_caller(self, caller_id: str | None) -> RuleSet | None:
        """Give the rules of a caller who has come before and has some of its own, such as a virtual key."""
        found = [rules for known, rules in self._known.items() if known[0] == caller_id]
        return found[-1] if found else None

    def all(self) -> list[RuleSet]:
        """List the sets that are made, the general one first."""
        return [self.general, *self._known.values()]

    def of(self, exchange: Exchange) -> RuleSet:
        """Give the rules that hold for a request."""
        identity = exchange.identity
        if not self._callers and (identity is None or not identity.limits):
            return self.general
        key = (exchange.caller_id, None if identity is None else identity.limits)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = self._own(exchange)
        return found

    def _own(self, exchange: Exchange) -> RuleSet:
        settings, identity = self._settings_of(exchange), exchange.identity
        allowances = () if identity is None else identity.limits
        if settings is None and not allowances:
            return self.general
        specs = [] if settings is not None and settings.exempt else simple_specs(self._config, settings)
        specs += listed_specs(self._config, settings)
        if settings is not None and settings.exempt:
            specs = [spec for spec in specs if "caller" not in spec.per]
        return self._make([*specs, *allowance_specs(self._config, allowances)])

    def _settings_of(self, exchange: Exchange) -> CallerSettings | None:
        """Find what is set for a caller: by its id, by the name or id of its key, or by its address."""
        identity = exchange.identity
        names = [exchange.caller_id]
        if identity is not None:
            names += [identity.id, identity.name]
        elif exchange.caller is None:
            names.append(exchange.peer)
        return next((self._callers[name] for name in names if name in self._callers), None)

    def _make(self, specs: Sequence[RuleSpec]) -> RuleSet:
        return RuleSet(self._rule(spec) for spec in specs)

    def _rule(self, spec: RuleSpec) -> Rule:
        partitions = self._partitions
        return Rule(spec, self._tables.of(spec), partitions.key(spec.per), partitions.label(spec.per), self._decisions)
