"""What a change would lead to: the whole new document, validated, and how it differs; nothing is in force yet."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.config.document import dotted, error_of
from proxy.config.edits import Edit, check_bytes, check_size
from proxy.config.export import effective, show
from proxy.config.loader import Document, Loaded, document_of, plugin_names, validate
from proxy.config.patch import Json, at_places, changes, difference, give_way, is_same, merge
from proxy.config.permission import reaches, trespasses
from proxy.config.secrets import SecretStore, reveal
from proxy.config.standing import Standing
from proxy.errors import ConfigError, Fault
from proxy.plugin import PluginConfig

Models = Callable[[Document], Mapping[str, type[PluginConfig]]]
"""Gives the config models of the plugins that a document names; raises ConfigError for one that cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration that could come into force.

    Args:
        diff: `[{"path", "old", "new"}]`, what operators are shown of the difference.
        is_change: it has another effect than what is in force, or the file says something else.
        touched: merge patch of every place that was written, also where the value stayed the same.
    """

    base: Json
    loaded: Loaded
    shown: Json
    diff: tuple[Json, ...]
    is_change: bool
    touched: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposer:
    """Makes proposals; reads only, so that it may run in a thread.

    Args:
        models: of the plugins a document names.
        host: the address given on the command line, which goes before `server.host`.
    """

    environ: Mapping[str, str]
    models: Models
    host: str | None = None

    def edit(self, standing: Standing, store: SecretStore, edit: Edit, *, is_trusted: bool) -> Proposal:
        """Propose what an edit of the shown document makes of it.

        Args:
            is_trusted: see `permission`.
        Raises:
            ConfigError: with every fault of the result.
            UnknownPath, MalformedBody: as the edit does.
        """
        sent = _with_state(edit.apply(standing.shown), standing.shown)
        check_size(sent)
        check_bytes(sent)
        wanted = self._revealed(sent, store)
        # before anything is expanded: whether a variable is set is told to nobody who may not name it
        if faults := reaches(standing, sent, wanted, is_trusted=is_trusted):
            raise error_of("the change", faults)
        document = document_of(wanted, self.environ, source="the change", sent=sent)
        if faults := trespasses(standing, document, plugin_names(document)):
            raise error_of("the change", faults)
        models = self.models(document)
        if idle := _idle_sections(standing, sent, models):
            left = {key: value for key, value in wanted.items() if key not in idle}
            document = document_of(left, self.environ, source="the change", sent=sent)
        loaded = validate(document, models, host=self.host)
        proposal = self._proposal(standing, standing.base, self._lean(standing, loaded), store)
        return replace(proposal, touched=at_places(edit.touches()))

    def shown(self, document: Json, store: SecretStore) -> Json:
        """Show a document of a revision with the defaults of today; as it was written if it is no longer valid."""
        try:
            return show(self.validated(self._revealed(document, store), "the revision"), store)
        except ConfigError:
            return document

    def whole(self, standing: Standing, store: SecretStore, document: Json) -> Proposal:
        """Propose a whole document as it was once in force, ids where secrets stand. Raises ConfigError."""
        loaded = self.validated(self._revealed(document, store), "the revision")
        return self._proposal(standing, standing.base, loaded, store)

    def patch(self, standing: Standing, store: SecretStore, patch: Json) -> Proposal:
        """Propose a merge patch of the document as written, with its secrets. Raises ConfigError."""
        loaded = self.validated(merge(standing.document, patch), "the change that is taken back")
        return replace(self._proposal(standing, standing.base, loaded, store), touched=patch)

    def file(self, standing: Standing, store: SecretStore, file: Document) -> Proposal:
        """Propose an edited file with the live changes that it leaves alone.

        Raises:
            ConfigError: the file is not valid by itself, or not with the live changes over it.
        """
        loaded = validate(file, self.models(file), host=self.host)
        document = over_file(standing.base, standing.document, file.raw)
        if not is_same(document, file.raw):
            loaded = self.validated(document, f"{file.source} with the live changes over it")
        proposal = self._proposal(standing, file.raw, loaded, store)
        return replace(proposal, touched=difference(standing.base, file.raw))

    def validated(self, raw: Json, source: str) -> Loaded:
        """Validate a whole document. Raises ConfigError."""
        document = document_of(raw, self.environ, source=source)
        return validate(document, self.models(document), host=self.host)

    def _lean(self, standing: Standing, wanted: Loaded) -> Loaded:
        """Find the document that has the wanted effect and says no more than the one in force where nothing changed.

        What is edited is the document with defaults filled in; were all of them written down, they would count as
        changed, and hide later edits of the file.
        """
        target, source = wanted.document.raw, wanted.document.source
        patch = difference(effective(standing.loaded), target)
        lean = merge(standing.document, patch)
        if is_same(lean, target):
            return wanted
        try:
            loaded = self.validated(lean, source)
        except ConfigError:
            loaded = None
        if loaded is not None and (loaded.settings, loaded.sections) == (wanted.settings, wanted.sections):
            return loaded
        # Below a key whose default is a mapping (providers), to write a part is to replace the whole: write the whole.
        kept = {key: value for key, value in standing.document.items() if key not in patch}
        return self.validated({**kept, **{key: target[key] for key in patch if key in target}}, source)

    @staticmethod
    def _revealed(document: Json, store: SecretStore) -> Json:
        unknown: list[tuple[tuple[str | int, ...], str]] = []
        revealed: Json = reveal(document, store, unknown)
        if unknown:
            faults = [
                Fault(dotted(path), f"there is no secret {secret_id[:40]!a}; write the secret itself or ${{NAME}}")
                for path, secret_id in unknown
            ]
            raise ConfigError("; ".join(f"{fault.path}: {fault.message}" for fault in faults), faults)
        return revealed

    @staticmethod
    def _proposal(standing: Standing, base: Json, loaded: Loaded, store: SecretStore) -> Proposal:
        shown = show(loaded, store)
        diff = diff_of(standing.shown, shown)
        return Proposal(base, loaded, shown, diff, bool(diff) or not is_same(base, standing.base))


def _with_state(wanted: Json, document: Json) -> Json:
    """Keep the state folder in a document that does not name one: live changes are kept there."""
    state, before = wanted.get("state", {}), document.get("state", {})
    if not isinstance(state, dict) or "dir" in state or "dir" not in before:
        return wanted
    return {**wanted, "state": {**state, "dir": before["dir"]}}


def _idle_sections(standing: Standing, sent: Json, models: Collection[str]) -> set[str]:
    """Find the sections that go with a plugin that is taken off the list: nobody ever wrote them, they are defaults."""
    gone = standing.loaded.sections.keys() - set(models) - standing.document.keys()
    return {name for name in gone if sent.get(name) == standing.shown[name]}


def diff_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Json, ...]:  # Any: JSON
    """List how two shown documents differ: `{"path", "old", "new"}`, null where one has nothing there."""
    return tuple({"path": dotted(one.path), "old": one.old, "new": one.new} for one in changes(old, new))


def over_file(base: Json, document: Json, file: Json) -> Json:
    """Put live changes over a new content of the file; what the file changed goes before them.

    A provider that the file adds, or sends elsewhere, is the file's whole: a key that was given live for another
    address must not go there.

    Args:
        base: the file's document over which `document` was made.
    """
    edit = difference(base, file)
    overlay = give_way(difference(base, document), edit)
    moved = [name for name in _mapping(edit, "providers") if _is_moved(base, file, name)]
    if moved:
        kept = {name: value for name, value in _mapping(overlay, "providers").items() if name not in moved}
        overlay = {**overlay, "providers": kept}
    merged: Json = merge(file, overlay)
    return merged


def _is_moved(base: Json, file: Json, name: str) -> bool:
    before, after = _mapping(base, "providers").get(name), _mapping(file, "providers").get(name)
    if not isinstance(before, dict) or not isinstance(after, dict):
        return True
    return any(before.get(key) != after.get(key) for key in ("type", "baseUrl", "proxy", "tls"))


def _mapping(document: Json, key: str) -> Json:
    found = document.get(key)
    return found if isinstance(found, dict) else {}
