"""Debian tools that some tests want, and what happens where one is missing."""

import os
import shutil
from pathlib import Path

import pytest

SKIP_PREFIX = "needs debian:"
PACKAGES = {"nginx": "nginx-light"}
"""Where the package's name is not the tool's."""


def require_tool(name: str) -> Path:
    """Find a tool, or skip the test, or the whole file when called outside one; SWITCHYARD_NO_SKIPS=1 makes that fail.

    Args:
        name: the command, such as `wrk`.
    Returns:
        Its absolute path; daemons live in /usr/sbin, which is not on everyone's PATH.
    """
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if found is None:
        pytest.skip(f"{SKIP_PREFIX} {PACKAGES.get(name, name)}", allow_module_level=True)
    return Path(found)
