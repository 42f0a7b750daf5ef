"""For the whole suite: on CI, no test is skipped for want of a Debian tool; and a Redis for those who ask for one."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.redis_server import RedisServer, short_folder
from tests.tools import SKIP_PREFIX

# nothing here is judged by how long it takes: the machine may be busy, and the first text that is drawn takes a second
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


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


@pytest.fixture(scope="session")
def redis_of_session() -> Iterator[RedisServer]:
    """One server for all tests that leave it running; ask for `redis_server`, which is empty."""
    with short_folder() as folder:
        yield from _running(RedisServer(Path(folder)))


@pytest.fixture
def redis_server(redis_of_session: RedisServer) -> RedisServer:
    """The session's Redis, empty: not to be stopped or frozen."""
    assert redis_of_session.ask("FLUSHALL") == "+OK"
    return redis_of_session


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed, frozen and started again."""
    with short_folder() as folder:
        yield from _running(RedisServer(Path(folder)))


def _running(server: RedisServer) -> Iterator[RedisServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
