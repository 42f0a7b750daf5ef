"""All wire formats by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.formats.anthropic import AnthropicFormat
from proxy.formats.base import Format
from proxy.formats.gemini import GeminiFormat
from proxy.formats.native import NativeFormat
from proxy.formats.ollama import OllamaFormat
from proxy.formats.openai import OpenAIFormat

FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        format_.name: format_
        for format_ in (OpenAIFormat(), AnthropicFormat(), GeminiFormat(), OllamaFormat(), NativeFormat())
    }
)
"""Keys: openai, anthropic, gemini, ollama, native."""

_TRANSLATED: Final = MappingProxyType({"native": frozenset({"openai", "anthropic", "gemini", "ollama"})})
_NOTHING: Final[frozenset[str]] = frozenset()


def translates_to(name: str) -> frozenset[str]:
    """List the formats that requests of a format can be translated to."""
    return _TRANSLATED.get(name, _NOTHING)
