"""Writing JSON values as YAML that the configuration's reader understands the same way."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

UNFOLDED = 1 << 20
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"))


class _Representer(SafeRepresenter):
    """Lists of plain values stand on one line, everything else below each other; the order is kept."""

    def list_node(self, values: list[Any]) -> SequenceNode:  # Any: JSON
        is_flat = not any(isinstance(value, dict | list) for value in values)
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=is_flat)

    def mapping_node(self, values: dict[str, Any]) -> MappingNode:  # Any: JSON
        return self.represent_mapping("tag:yaml.org,2002:map", values, flow_style=not values)

    def text_node(self, text: str) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if _is_plain(text) else '"')


_Representer.add_representer(list, _Representer.list_node)
_Representer.add_representer(dict, _Representer.mapping_node)
_Representer.add_representer(str, _Representer.text_node)


def _is_plain(text: str) -> bool:
    """Whether the library may leave text unquoted, as it does unless YAML 1.2 has another meaning for it.

    YAML 1.1 has more such words, and `[?x]` the library (0.19) writes, and cannot read, without quotes.
    """
    return text.isprintable() and text[:1] not in ("?", ":") and text.lower() not in _WORDS


def yaml_text(document: Any) -> str:  # Any: JSON
    """Write a mapping or a list."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = UNFOLDED
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None, means bool
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()
