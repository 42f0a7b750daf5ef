"""Switchyard: a reverse proxy between applications and LLM providers."""

from typing import Final

import pluggy

__version__: Final = "0.1.0"

hookimpl = pluggy.HookimplMarker("proxy")
"""Marks a plugin's method as the implementation of the hook of the same name."""
