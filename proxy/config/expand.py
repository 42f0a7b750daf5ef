"""References to the environment in text: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, and `$$` for one `$`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_PART = re.compile(r"\$\$|\$\{([^{}$]*)\}|\$\{")
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${…}` in a text.

    Args:
        default: what stands after `:-`, None without it.
        demand: what stands after `:?`, None without it.
    """

    name: str
    default: str | None = None
    demand: str | None = None


def parts(text: str) -> Iterator[str | Reference]:
    """Take a text apart into literal pieces and references.

    Raises:
        ValueError: a `${` that is no reference, in words for the operator that do not repeat the text.
    """
    end = 0
    for match in _PART.finditer(text):
        if match.start() > end:
            yield text[end : match.start()]
        end = match.end()
        if match[0] == "$$":
            yield "$"
        else:
            yield _reference(match[1])
    if end < len(text):
        yield text[end:]


def _reference(inside: str | None) -> Reference:
    match = _REFERENCE.fullmatch(inside or "")
    if match is None:
        raise ValueError("holds a ${ that is no reference: write ${NAME}, ${NAME:-default}, ${NAME:?message} or $$")
    name, mark, rest = match.groups()
    return Reference(name, rest if mark == ":-" else None, rest if mark == ":?" else None)


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Put the environment's values in the place of references; what they hold is not looked at again.

    As in a shell, an empty variable counts as unset where `:-` or `:?` is given.

    Raises:
        ValueError: an unset variable without default, or a malformed reference.
    """
    if "$" not in text:
        return text
    return "".join(part if isinstance(part, str) else _value(part, environ) for part in parts(text))


def _value(reference: Reference, environ: Mapping[str, str]) -> str:
    value = environ.get(reference.name)
    if reference.default is not None:
        return value or reference.default
    if reference.demand is not None and not value:
        raise ValueError(f"the environment variable {reference.name} is not set: {reference.demand or 'it is needed'}")
    if value is None:
        raise ValueError(f"the environment variable {reference.name} is not set")
    return value


def names_in(text: str) -> list[str]:
    """List the environment variables that a text refers to; none if it is malformed."""
    try:
        return [part.name for part in parts(text) if isinstance(part, Reference)]
    except ValueError:
        return []
