"""The sink of a request that no client waits for."""

import pytest

from proxy.journey.shared_sink import Nobody
from tests.plugins.rig import make_exchange


@pytest.mark.parametrize("parts", [[b"whole"], [b"in ", b"parts"]])
def test_what_comes_without_a_client_is_counted_however_it_comes(parts: list[bytes]) -> None:
    exchange = make_exchange()
    sink = Nobody(exchange)

    if len(parts) == 1:
        sink.whole(203, b"", parts[0])
    else:
        sink.start(203, b"", None, True)
        for part in parts:
            sink.write(part)
        sink.finish()

    assert (exchange.status, exchange.bytes_out, sink.is_started) == (203, sum(map(len, parts)), True)
