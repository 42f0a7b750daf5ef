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
        self.rules: dict[Identity, Rule] = {}
        """The last rule that was made for each, for operators: also those of virtual keys, whatever else changed."""

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
            self.rules.pop(identity, None)


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
        self._known: dict[tuple[str | None, tuple[Allowance, ...]], RuleSet] = {}
        """By the name under which a caller has settings of its own, and what its virtual key allows."""

    @property
    def identities(self) -> set[Identity]:
        """All rules of the settings, also those that only single callers have."""
        specs = [*self._simple, *self._listed]
        for caller in self._callers.values():
            specs += simple_specs(self._config, caller)
        return {spec.identity for spec in specs}

    def of(self, exchange: Exchange) -> RuleSet:
        """Give the rules that hold for a request."""
        identity = exchange.identity
        if identity is None and not self._callers:  # as for most
            return self.general
        allowances = () if identity is None else identity.limits
        name = self._name_of(exchange) if self._callers else None
        if name is None and not allowances:
            return self.general
        key = (name, allowances)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = self._own(None if name is None else self._callers[name], allowances)
        return found

    def _own(self, settings: CallerSettings | None, allowances: tuple[Allowance, ...]) -> RuleSet:
        specs = [] if settings is not None and settings.exempt else simple_specs(self._config, settings)
        specs += listed_specs(self._config, settings)
        if settings is not None and settings.exempt:
            specs = [spec for spec in specs if "caller" not in spec.per]
        return self._make([*specs, *allowance_specs(self._config, allowances)])

    def _name_of(self, exchange: Exchange) -> str | None:
        """Find under what name a caller has settings: its id, the name or id of its key, or its address."""
        identity, caller_id = exchange.identity, exchange.caller_id
        names = [caller_id]
        if identity is not None:
            names += [identity.id, identity.name]
        elif caller_id.startswith("peer:"):
            names.append(exchange.peer)
        return next((name for name in names if name in self._callers), None)

    def _make(self, specs: Sequence[RuleSpec]) -> RuleSet:
        return RuleSet(self._rule(spec) for spec in specs)

    def _rule(self, spec: RuleSpec) -> Rule:
        partitions, tables = self._partitions, self._tables
        rule = Rule(spec, tables.of(spec), partitions.key(spec.per), partitions.label(spec.per), self._decisions)
        tables.rules[spec.identity] = rule
        return rule
