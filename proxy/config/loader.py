"""The two steps from a YAML file to settings: read the document, then validate it with the models of loaded plugins."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from proxy.config.checks import check_settings
from proxy.config.document import dotted, error_of, read_yaml
from proxy.config.expand import expand
from proxy.config.faults import faults_of, show, unknown_key
from proxy.config.models import BUILT_IN_PLUGINS, Settings
from proxy.config.sent import as_sent
from proxy.config.shape import KeyPath, Shape, fields_of, members
from proxy.errors import Fault
from proxy.plugin import PluginConfig

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration as it was written, not yet validated.

    Args:
        source: names it in messages, such as `conf/proxy.yaml`.
        raw: JSON values with references such as `${NAME}` as written.
        values: the same, references replaced by what the environment holds.
        lines: where each key and list item stands in the file; empty if it came from elsewhere.
        faults: references that could not be replaced, with their paths; `validate` reports them with the rest.
        sent: `raw` with ids where secrets stand, if it came so; what faults may show.
    """

    source: str
    raw: dict[str, Any]  # Any: JSON
    values: dict[str, Any]  # Any: JSON
    lines: Mapping[KeyPath, int]
    faults: tuple[tuple[KeyPath, Fault], ...] = ()
    sent: dict[str, Any] | None = None  # Any: JSON


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration.

    Args:
        sections: by camelCase name, one for each loaded plugin, also where the document says nothing of it.
    """

    document: Document
    settings: Settings
    sections: dict[str, PluginConfig]
    shape: Shape


def load(
    path: Path,
    environ: Mapping[str, str],
    sections: Mapping[str, type[PluginConfig]],
    *,
    host: str | None = None,
) -> Loaded:
    """Do both steps at once, where it is known beforehand which plugins are loaded."""
    return validate(read(path, environ), sections, host=host)


def read(path: Path, environ: Mapping[str, str]) -> Document:
    """Read a file and replace its references.

    Raises:
        ConfigError: the file cannot be read, or is not a YAML mapping. Unset variables wait for `validate`.
    """
    raw, lines = read_yaml(path)
    return document_of(raw, environ, source=str(path), lines=lines)


def document_of(
    raw: dict[str, Any],  # Any: JSON
    environ: Mapping[str, str],
    *,
    source: str,
    lines: Mapping[KeyPath, int] | None = None,
    sent: dict[str, Any] | None = None,  # Any: JSON
) -> Document:
    """Make a document of JSON values at hand, such as a candidate sent by an operator."""
    faults: list[tuple[KeyPath, Fault]] = []
    values = _expand(raw, environ, (), faults)
    return Document(source, raw, values, lines or {}, tuple(faults), sent)


def plugin_names(document: Document) -> tuple[str, ...]:
    """Tell which plugins the document wants loaded, before their sections can be validated.

    Raises:
        ConfigError: `plugins` is not a list of names, or holds one twice.
    """
    core = {"plugins": document.values["plugins"]} if "plugins" in document.values else {}
    faults = [found for found in document.faults if found[0][:1] == ("plugins",)]
    settings = None if faults else _build(Settings, core, Shape({}), (), faults)
    if settings is None:
        raise error_of(document.source, [_with_line(path, fault, document) for path, fault in faults])
    return settings.plugins


def validate(document: Document, sections: Mapping[str, type[PluginConfig]], *, host: str | None = None) -> Loaded:
    """Check a whole document.

    Args:
        sections: the config models of the loaded plugins by camelCase section name.
        host: the address given on the command line, which goes before `server.host`.
    Raises:
        ConfigError: with every fault there is, in the order of the file.
    """
    shape = Shape(sections)
    found = list(document.faults)
    core_keys = fields_of(Settings)
    found += _unknown_sections(document, shape)
    found += _flags_for_numbers(document.values, shape)
    core = {key: value for key, value in document.values.items() if key in core_keys}
    settings = _build(Settings, core, shape, (), found)
    built: dict[str, PluginConfig] = {}
    for name, model in sections.items():
        section = _build(model, document.values.get(name, {}), shape, (name,), found)
        if section is not None:
            built[name] = section
    if settings is not None:
        found += check_settings(settings, host)
    faults = _without_repeats(found, document)
    if settings is None or faults:
        raise error_of(document.source, faults)
    return Loaded(document, settings, built, shape)


def _expand(
    value: Any, environ: Mapping[str, str], path: KeyPath, faults: list[tuple[KeyPath, Fault]]
) -> Any:  # Any: JSON
    if isinstance(value, dict):
        return {key: _expand(item, environ, (*path, key), faults) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, environ, (*path, position), faults) for position, item in enumerate(value)]
    if isinstance(value, str):
        try:
            return expand(value, environ)
        except ValueError as error:
            faults.append((path, Fault(dotted(path), str(error))))
    return value


def _build(
    model: type[Model], value: object, shape: Shape, path: KeyPath, found: list[tuple[KeyPath, Fault]]
) -> Model | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found += faults_of(error.errors(include_url=False), shape, path)
        return None


def _unknown_sections(document: Document, shape: Shape) -> Iterator[tuple[KeyPath, Fault]]:
    known = set(shape.keys())
    not_loaded = {to_camel(name): name for name in BUILT_IN_PLUGINS}
    for key in document.values:
        if key in known:
            continue
        if key in not_loaded:
            message = f"is the section of the plugin {not_loaded[key]}, which is not loaded; add it to plugins"
            yield (key,), Fault(dotted((key,)), message)
        else:
            yield (key,), unknown_key((key,), shape, "is not a known key or the section of a loaded plugin")


def _flags_for_numbers(value: object, shape: Shape, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Fault]]:
    """Find true and false where a number belongs: pydantic would read them as 1 and 0."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flags_for_numbers(item, shape, (*path, key))
    elif isinstance(value, bool):
        kinds = members(shape.at(path))
        if bool not in kinds and (int in kinds or float in kinds):
            yield path, Fault(dotted(path), f"{show(value)} is not a number", value)


def _without_repeats(found: list[tuple[KeyPath, Fault]], document: Document) -> list[Fault]:
    """Keep the first fault of each place: a reference that has no value is not also a wrong value."""
    first: dict[KeyPath, Fault] = {}
    for path, fault in found:
        first.setdefault(path, fault)
    return [_with_line(path, fault, document) for path, fault in first.items()]


def _with_line(path: KeyPath, fault: Fault, document: Document) -> Fault:
    """Say a fault in the words that were sent, and add the line of its place, or of what it is missing from."""
    sent = document.raw if document.sent is None else document.sent
    fault = as_sent(path, fault, sent, document.values)
    while path and path not in document.lines:
        path = path[:-1]
    return replace(fault, line=document.lines.get(path))
