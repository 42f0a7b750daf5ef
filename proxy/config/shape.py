"""What the models say about a place in the document: its keys, its type, and whether it is secret."""

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from proxy.config.models import Settings
from proxy.plugin import PluginConfig
from proxy.redaction import is_secret_name

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the document: `("models", "fast", 0)`."""

Annotation = Any  # Any: a type as pydantic keeps it, from a class to a union or an Annotated

_USERINFO = re.compile(r"://[^/\s]{1,1000}@")


@dataclass(frozen=True, slots=True)
class Shape:
    """The whole document: the core's settings and one model for each loaded plugin's section."""

    sections: Mapping[str, type[PluginConfig]]
    _known: dict[KeyPath, Annotation] = field(default_factory=dict, repr=False, compare=False)
    """Types of places that have others below them: a document of thousands of names asks for each again and again."""

    def keys(self) -> list[str]:
        """List what may stand at the top level."""
        return [*fields_of(Settings), *self.sections]

    def at(self, path: KeyPath) -> Annotation | None:
        """Give the type of a place, None where the models know nothing of it."""
        if not path:
            return None
        if len(path) == 1:
            top = fields_of(Settings).get(str(path[0]))
            return top.annotation if top else self.sections.get(str(path[0]))
        above = path[:-1]
        if above not in self._known:
            self._known[above] = self.at(above)
        return child(self._known[above], path[-1])

    def joined(self, other: "Shape") -> "Shape":
        """Give the shape of documents that may name the plugins of either."""
        return Shape({**self.sections, **other.sections})

    def keys_at(self, path: KeyPath) -> list[str]:
        """List the keys that the models know at a place; empty where any are allowed or none."""
        if not path:
            return self.keys()
        model = model_of(self.at(path))
        return list(fields_of(model)) if model else []

    def is_secret(self, path: KeyPath, value: object = None) -> bool:
        """Tell whether a value must not be shown, by its type, by its name, or because it is a URL with a password."""
        if _has_secret_type(self.at(path)):
            return True
        if len(path) > 1 and model_of(self.at(path[:-1])) is None and is_secret_name(str(path[-1])):
            return True
        return isinstance(value, str) and _USERINFO.search(value) is not None


@lru_cache(maxsize=256)
def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Map the keys of a model, as written in YAML, to its fields. Do not change what it gives."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def members(annotation: Annotation) -> tuple[Annotation, ...]:
    """Take an annotation apart: the alternatives of a union, without `Annotated` around them."""
    origin = _origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        return tuple(part for each in get_args(annotation) for part in members(each))
    return (annotation,)


def model_of(annotation: Annotation | None) -> type[BaseModel] | None:
    """Give the model among the alternatives of an annotation, if there is one."""
    for part in members(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def child(annotation: Annotation | None, key: str | int) -> Annotation | None:
    """Give the type of what stands under a key or at a position."""
    for part in members(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            field = fields_of(part).get(str(key))
            return field.annotation if field else None
        arguments, origin = get_args(part), _origin(part)
        if isinstance(key, int) and origin in (list, tuple) and arguments:
            return arguments[0]
        if isinstance(key, str) and origin in (dict, Mapping) and len(arguments) == 2:
            return arguments[1]
    return None


def _origin(annotation: Annotation) -> object:
    return get_origin(annotation)


def _has_secret_type(annotation: Annotation | None) -> bool:
    return any(
        part is SecretStr or any(_has_secret_type(each) for each in get_args(part) if get_origin(part) is not None)
        for part in members(annotation)
    )
