"""Reading a YAML file into plain JSON values, with the line of every key."""

import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from proxy.config.shape import KeyPath
from proxy.errors import ConfigError, Fault
from proxy.values import printable

MAX_FILE_BYTES = 1 << 20
MAX_VALUES = 50_000
"""Aliases (`*name`) can make a small file mean an endless one; this many values are read at most."""
MAX_DEPTH = 32

_CORE = "tag:yaml.org,2002:"
_SCALARS = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value"))
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Read a file.

    Args:
        path: as the operator named it; it stands so in messages.
    Returns:
        The document in JSON types, keys without a value left out, and the line of each key and list item.
    Raises:
        ConfigError: the file cannot be read or is not YAML, or holds what no document may hold.
    """
    return parse_yaml(_read_text(path), str(path))


def parse_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Do as `read_yaml`, with text at hand; `source` names it in messages."""
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except RecursionError:
        raise ConfigError(f"{source}: is nested more than {MAX_DEPTH} levels deep") from None
    except YAMLError as error:
        raise _yaml_error(error, text, source) from None
    except (ValueError, IndexError, AttributeError, AssertionError, NotImplementedError) as error:
        # The YAML library lets these through on a few broken inputs (found by fuzzing).
        raise ConfigError(f"{source}: is not valid YAML: {type(error).__name__}") from None
    if root is None or (isinstance(root, ScalarNode) and root.tag == _CORE + "null"):
        return {}, {}
    if not isinstance(root, MappingNode):
        raise error_of(source, [Fault("", "the top level is not a mapping of keys to values", None, _line(root))])
    reader = _Reader()
    document = reader.mapping(root, ())
    if reader.faults:
        raise error_of(source, reader.faults)
    return document, reader.lines


def error_of(source: str, faults: list[Fault]) -> ConfigError:
    """Make one error of all faults, a line each: `conf/prod.yaml:14: cache.ttl: -5 is not above 0`."""
    ordered = sorted(faults, key=lambda fault: (fault.line or 0, fault.path))
    return ConfigError("\n".join(_fault_line(source, fault) for fault in ordered), ordered)


def _fault_line(source: str, fault: Fault) -> str:
    where = source if fault.line is None else f"{source}:{fault.line}"
    return f"{where}: {fault.path}: {fault.message}" if fault.path else f"{where}: {fault.message}"


def dotted(path: KeyPath) -> str:
    """Write a path as messages show it: `providers.openai.baseUrl`, control characters escaped."""
    return ".".join(printable(str(part)) for part in path)


def _read_text(path: Path) -> str:
    try:
        data = read_regular_file(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise error_of(str(path), [Fault("", "is not UTF-8 text", None, line)]) from None


def read_regular_file(path: Path, limit_bytes: int) -> bytes:
    """Read a whole file, never a device or a pipe, which could be endless or block.

    Raises:
        OSError: it cannot be opened or read.
        ValueError: not a regular file, or larger than the limit, in words that follow the file's name.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit_bytes + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit_bytes:
        raise ValueError(f"is larger than {limit_bytes:,} bytes")
    return data


def _yaml_error(error: YAMLError, text: str, source: str) -> ConfigError:
    problem, line = "", None
    if isinstance(error, ReaderError):
        problem = f"the control character U+{ord(text[error.position]):04X} is not allowed"
        line = text.count("\n", 0, error.position) + 1
    elif isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = printable(" ".join(part for part in (error.context, error.problem) if part), 200)
        line = mark.line + 1 if mark else None
    return error_of(source, [Fault("", f"is not valid YAML: {problem or type(error).__name__}", None, line)])


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


class _Reader:
    """Builds plain values from YAML nodes; what it cannot take it notes as a fault and goes on."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[Fault] = []
        self._left = MAX_VALUES

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, child in self._pairs(node, path):
            where = (*path, key)
            if (value := self.value(child, where)) is not None:
                values[key] = value
        return values

    def value(self, node: Node, path: KeyPath) -> Any:  # Any: JSON of whatever shape
        self._left -= 1
        if self._left < 0 or len(path) > MAX_DEPTH:
            if self._left == -1 or len(path) == MAX_DEPTH + 1:
                limit = f"more than {MAX_VALUES:,} values" if self._left < 0 else f"more than {MAX_DEPTH} levels"
                self._fault(node, path, f"{limit}: too large, or an alias that holds itself")
            return None
        if isinstance(node, MappingNode):
            return self.mapping(node, path) if self._has_tag(node, path, "map") else None
        if isinstance(node, SequenceNode):
            if not self._has_tag(node, path, "seq"):
                return None
            for position, item in enumerate(node.value):
                self.lines[(*path, position)] = _line(item)
            return [self.value(item, (*path, position)) for position, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _pairs(self, node: MappingNode, path: KeyPath) -> Iterator[tuple[str, Node]]:
        first: dict[str, int] = {}
        for key_node, child in node.value:
            if self._left < 0:
                return
            if not isinstance(key_node, ScalarNode) or not key_node.value:
                self._fault(key_node, path, "a key here is not text")
                continue
            key, line = str(key_node.value), _line(key_node)
            if key_node.tag == _CORE + "merge":
                self._fault(key_node, (*path, key), "merge keys are not part of YAML 1.2; write the keys out")
            elif key in first:
                self._fault(key_node, (*path, key), f"stands twice, first on line {first[key]}")
            else:
                first[key] = self.lines[(*path, key)] = line
                yield key, child

    def _has_tag(self, node: Node, path: KeyPath, name: str) -> bool:
        if node.tag == _CORE + name:
            return True
        self._fault(node, path, f"the tag {printable(str(node.tag))} is not supported")
        return False

    def _scalar(self, node: Node, path: KeyPath) -> str | int | float | bool | None:
        text = str(node.value)
        if node.tag not in _SCALARS:
            self._fault(node, path, f"the tag {printable(str(node.tag))} is not supported")
            return None
        if node.tag == _CORE + "str":
            return text
        try:
            return plain_scalar(text)
        except ValueError as error:
            self._fault(node, path, str(error))
            return None

    def _fault(self, node: Node, path: KeyPath, message: str) -> None:
        self.faults.append(Fault(dotted(path), message, None, _line(node)))


def plain_scalar(text: str) -> str | int | float | bool | None:
    """Read an unquoted scalar by the core schema of YAML 1.2 (section 10.3.2), within what JSON can carry.

    Raises:
        ValueError: infinite, not a number, or outside 64 bits, in words for the operator.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    if _INT.fullmatch(text):
        number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) < 40 else 1 << 64
        if not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"{printable(text, 24)} does not fit in 64 bits")
        return number
    if _FLOAT.fullmatch(text):
        if not math.isfinite(value := float(text)):
            raise ValueError(f"{printable(text, 24)} is too large a number")
        return value
    return text
