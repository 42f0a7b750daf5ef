"""The example of the plugin guide, taken from its text, does what the guide says."""

import importlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from ruamel.yaml import YAML

from proxy.errors import Refused
from proxy.events import Events
from proxy.host.loader import config_models, load
from proxy.host.manager import Machinery, PluginHost
from proxy.metrics import Registry
from tests.plugins.rig import NO_CORE
from tests.proxy.host.rig import make_exchange

GUIDE = Path(__file__).parents[3] / "docs" / "plugins.md"


def block(language: str, containing: str = "") -> str:
    """The first block of this language in the guide that has these words."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return next(found for found in blocks if containing in found)


async def test_example_is_found_configured_and_refuses(write: Callable[[str, str], None]) -> None:
    write("my_plugins/hello.py", block("python"))
    document: dict[str, Any] = YAML(typ="safe").load(block("yaml"))

    loaded = load(document["plugins"])
    sections = {name: model.model_validate(document.get(name, {})) for name, model in config_models(loaded).items()}
    machinery = Machinery(time.monotonic, time.time, Registry(), Events(), logger, *NO_CORE)
    host = PluginHost(loaded, sections, machinery)
    exchange = make_exchange()
    passed = await host.dispatch.run_pre_request(exchange)
    exchange.request.model = "gpt-5-pro"
    with pytest.raises(Refused) as refused:
        await host.dispatch.run_pre_request(exchange)

    assert passed is None
    assert (refused.value.status, refused.value.code) == (403, "model_forbidden")


async def test_example_of_a_test_with_faults_passes(write: Callable[[str, str], None]) -> None:
    write("my_plugins/hello.py", block("python"))
    write("guide_of_faults.py", block("python", "FaultProxy"))
    example = importlib.import_module("guide_of_faults")

    await example.test_dear_model_reaches_no_provider_and_a_reset_is_told()


def test_example_has_about_twenty_lines() -> None:
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 20
