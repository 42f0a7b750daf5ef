"""The section `store`: what is taken for the URL of a server, and what is said of one that is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config.store_models import StoreSettings, parse_address

CANARY = "canary-91"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://redis.example", "redis://redis.example:6379/0"),
        ("redis://redis.example/", "redis://redis.example:6379/0"),
        ("redis://[::1]:6380/15", "redis://[::1]:6380/15"),
        (f"redis://:{CANARY}@127.0.0.1:7000/2", "redis://127.0.0.1:7000/2"),
        (f"rediss://user:{CANARY}@redis.example", "rediss://redis.example:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        (f"unix://:{CANARY}@/run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
    ],
)
def test_url_of_a_server_is_taken_and_shown_without_its_password(url: str, shown: str) -> None:
    address = parse_address(url)

    assert address.shown == shown
    assert address.password == (CANARY if CANARY in url else None)
    assert CANARY not in repr(address)


def test_password_is_written_as_in_any_url() -> None:
    assert parse_address("redis://u%40v:p%2Fq%23%3F@h").password == "p/q#?"
    assert parse_address("redis://u%40v:p%2Fq%23%3F@h").username == "u@v"


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{CANARY}@redis.example",
        f"redis:{CANARY}",
        f"redis://:{CANARY}@",
        f"redis://:{CANARY}@redis.example:0",
        f"redis://:{CANARY}@redis.example:99999",
        f"redis://:pass/{CANARY}@redis.example",
        f"redis://:pass#{CANARY}@redis.example",
        f"redis://:pass?{CANARY}@redis.example",
        f"redis://:pass {CANARY}@redis.example",
        f"redis://redis.example/{CANARY}",
        f"redis://redis.example?password={CANARY}",
        f"redis://redis.example/0?socket_timeout=9&x={CANARY}",
        f"unix://{CANARY}/run/redis.sock",
        f"unix://:{CANARY}@",
        f"unix:///run/redis.sock?password={CANARY}",
        "unix:///run/redis.sock?db=x",
        "redis://redis.example/99999",
    ],
)
def test_other_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"it |after unix|the number") as caught:
        parse_address(url)

    assert CANARY not in str(caught.value)


@given(st.text(max_size=40), st.sampled_from(["redis://", "rediss://", "unix:///", ""]))
def test_whatever_stands_there_is_an_address_or_refused(text: str, scheme: str) -> None:
    try:
        address = parse_address(scheme + text)
    except ValueError:
        return

    assert address.path if address.scheme == "unix" else address.host and 0 < address.port < 65536


@pytest.mark.parametrize("url", [None, "", "none"])
def test_without_a_url_there_is_no_store(url: str | None) -> None:
    settings = StoreSettings.model_validate({} if url is None else {"url": url})

    assert settings.address is None
    assert settings == StoreSettings()


def test_password_does_not_show_in_the_settings() -> None:
    settings = StoreSettings.model_validate({"url": f"redis://:{CANARY}@redis.example"})

    assert CANARY not in repr(settings)


@pytest.mark.parametrize(
    ("given_", "path"),
    [
        ({"timeout": 0}, "timeout"),
        ({"prefix": "a*"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"maxConnections": 0}, "maxConnections"),
        ({"breaker": {"failures": 0}}, "failures"),
        ({"url": "redis://h", "caFile": "/a.pem"}, "caFile"),
    ],
)
def test_settings_that_cannot_work_are_refused(given_: dict[str, object], path: str) -> None:
    with pytest.raises(ValidationError, match=path):
        StoreSettings.model_validate(given_)
