"""Every admin route has a policy on purpose, a summary, and a place in the documents."""

import re

from proxy.testing import ProxyHarness
from tests.contract.sources import ROOT

PUBLIC = {"/health", "/livez", "/readyz"}


def documents() -> str:
    return "\n".join(path.read_text("utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))


async def test_every_route_is_documented_and_guarded() -> None:
    text = documents()
    async with ProxyHarness() as proxy:
        await proxy.start()
        routes = proxy.app.routes

    missing = {route.path for route in routes if not _stands_in(route.path, text)}
    assert len(routes) > 25
    assert not missing, "in no document"
    assert {route.path for route in routes if route.policy == "public"} == PUBLIC
    assert all(route.summary.endswith(".") for route in routes)


def _stands_in(path: str, text: str) -> bool:
    """`{path...}` is written as `{section}/…` there."""
    pattern = re.escape(path).replace(re.escape("{path...}"), r"\{section\}/…")
    return re.search(rf"{pattern}(?![\w/])", text) is not None
