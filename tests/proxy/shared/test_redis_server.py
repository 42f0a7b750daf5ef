"""The server that other tests rely on."""

import socket

import pytest

from tests.redis_server import RedisServer


def test_server_answers_by_tcp_and_by_unix_socket(redis_server: RedisServer) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(redis_server.path))
        connection.sendall(b"PING\r\n")
        by_unix = connection.recv(100)

    assert by_unix == b"+PONG\r\n"
    assert redis_server.ask("PING") == "+PONG"


@pytest.mark.parametrize("attempt", [1, 2])
def test_session_s_server_is_empty_for_each_test(redis_server: RedisServer, attempt: int) -> None:
    assert redis_server.ask("DBSIZE") == ":0"
    assert redis_server.ask("SET", "left", "behind") == "+OK"


def test_frozen_server_answers_nothing_and_goes_on_when_thawed(own_redis: RedisServer) -> None:
    with socket.create_connection(("127.0.0.1", own_redis.port), timeout=0.05) as connection:
        own_redis.freeze()
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        own_redis.thaw()
        connection.settimeout(10)

        assert connection.recv(100) == b"+PONG\r\n"


def test_stopped_server_refuses_until_it_is_started_again_at_the_same_place(own_redis: RedisServer) -> None:
    port = own_redis.port
    assert own_redis.ask("SET", "a", "1") == "+OK"

    own_redis.stop()
    with pytest.raises(ConnectionRefusedError):
        own_redis.ask("PING")
    own_redis.start()

    assert own_redis.port == port
    assert own_redis.ask("DBSIZE") == ":0"
