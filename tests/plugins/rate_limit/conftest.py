"""Where is counted in tests: in memory, and by the script on a Redis; the same tests hold for both."""

from collections.abc import Iterator

import pytest

from tests.plugins.rate_limit.meters import Counting, MemoryCounting, ScriptCounting
from tests.redis_server import RedisServer


@pytest.fixture(scope="session", params=["memory", "redis"])
def counting(request: pytest.FixtureRequest) -> Iterator[Counting]:
    """Makes meters of either kind."""
    if request.param == "memory":
        yield MemoryCounting()
        return
    server: RedisServer = request.getfixturevalue("redis_of_session")
    script = ScriptCounting(server.path)
    yield script
    script.close()
