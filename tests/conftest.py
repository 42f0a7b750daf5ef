"""Rules for the whole test suite: on CI, a test may not be skipped for want of a Debian tool."""

import os
from collections.abc import Generator

import pytest

from tests.tools import SKIP_PREFIX


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_tool_is_missing(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_tool_is_missing(report)
    return report


def _fail_if_tool_is_missing(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("SWITCHYARD_NO_SKIPS") != "1" or not report.skipped or not isinstance(report.longrepr, tuple):
        return
    path, line, reason = report.longrepr
    if reason.removeprefix("Skipped: ").startswith(SKIP_PREFIX):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: {reason} (SWITCHYARD_NO_SKIPS=1 allows no such skip)"
