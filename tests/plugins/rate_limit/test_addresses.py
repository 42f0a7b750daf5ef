"""The address a rule per ip counts: a client cannot choose it."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.rate_limit.addresses import client_address

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", b"198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", b"10.0.0.9,10.0.0.2", "10.0.0.9"),
        ("10.0.0.1", b"198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", b"[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("10.0.0.1", b"2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("10.0.0.1", b"::ffff:198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", b"198.51.100.1", "198.51.100.1"),
        ("fd00::1", b"198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", b"unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", b"1.1.1.1, " * 31 + b"10.0.0.3", "1.1.1.1"),
        ("", b"198.51.100.1", ""),
    ],
)
def test_walk_ends_at_the_first_address_that_is_no_trusted_proxy(peer: str, forwarded: bytes, found: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == found


@given(made_up=st.binary(max_size=200))
def test_nothing_a_client_writes_changes_what_the_trusted_proxy_added(made_up: bytes) -> None:
    assert client_address("10.0.0.1", made_up + b", 198.51.100.1", TRUSTED) == "198.51.100.1"


@given(made_up=st.binary(max_size=200))
def test_nobody_is_believed_while_no_proxy_is_trusted(made_up: bytes) -> None:
    assert client_address("203.0.113.7", made_up, ()) == "203.0.113.7"
