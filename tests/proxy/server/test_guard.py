"""Who may call what: this machine, host names, browsers' marks, tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.models import Settings
from proxy.errors import Forbidden, Unauthorized
from proxy.server.guard import Guard, host_name, is_loopback_address

PEER = "127.0.0.1"
HERE = {b"host": b"127.0.0.1:8080"}
TOKEN = "Tök-3n"


def guard(*, token: str | None = None, origins: list[str] | None = None, hosts: list[str] | None = None) -> Guard:
    server = {"allowedOrigins": origins or [], "allowedHosts": hosts or []}
    return Guard(Settings.model_validate({"server": server, "admin": {"token": token}}))


OWN_HOSTS = [
    b"127.0.0.1",
    b"127.0.0.1:8080",
    b"127.8.9.10",
    b"localhost",
    b"LOCALHOST:8080",
    b"localhost.",
    b"foo.localhost",
    b"foo.localhost:1",
    b"[::1]",
    b"[::1]:8080",
    b"[::ffff:127.0.0.1]:8080",
]
FOREIGN_HOSTS = [
    b"",
    b" ",
    b"evil.test",
    b"evil.test:8080",
    b"localhost.evil.test",
    b"127.0.0.1.evil.test",
    b"notlocalhost",
    b"127.1",  # one machine reads it as 127.0.0.1, another as a name: neither is needed
    b"2130706433",
    b"0x7f.1",
    b"0.0.0.0",
    b"10.0.0.1",
    b"[::]",
    b"[fe80::1]",
    b"[::ffff:10.0.0.1]",
    b"evil.test@127.0.0.1",
    b"127.0.0.1@evil.test",
    b"127.0.0.1/evil.test",
    b"127.0.0.1#evil.test",
    b"127.0.0.1?evil.test",
    b"127.0.0.1\\evil.test",
    b"local\thost",
    b"127.0.0.1, evil.test",
    b"127.0.0.1 evil.test",
    b"[::1",
    b"::1]",
    b"\xff\xfe",
]
BROWSER_MARKS = [
    {b"origin": b"https://evil.test"},
    {b"origin": b"null"},
    {b"origin": b""},
    {b"origin": b"http://127.0.0.1:9999"},
    {b"origin": b"http://localhost:8080"},  # another name than the Host's is another origin
    {b"origin": b"file://"},
    {b"sec-fetch-site": b"cross-site"},
    {b"sec-fetch-site": b"same-site"},
    {b"sec-fetch-site": b""},
    {b"sec-fetch-site": b"Cross-Site"},
]
PREFETCHES = [{b"purpose": b"prefetch"}, {b"sec-purpose": b"prefetch;prerender"}, {b"x-moz": b"prefetch"}]
OWN_MARKS = [
    {b"origin": b"http://127.0.0.1:8080"},
    {b"origin": b"HTTP://127.0.0.1:8080"},
    {b"sec-fetch-site": b"same-origin", b"origin": b"http://127.0.0.1:8080"},
    {b"sec-fetch-site": b"none"},
]
FORWARDED = [
    {b"forwarded": b"for=1.2.3.4"},
    {b"via": b"1.1 nginx"},
    {b"x-real-ip": b"127.0.0.1"},
    {b"x-forwarded-for": b"127.0.0.1"},
    {b"x-forwarded-host": b"localhost"},
    {b"x-forwarded-proto": b"https"},
    {b"x-forwarded-port": b"443"},
    {b"x-forwarded-server": b"front"},
    {b"x-forwarded-for": b""},
]


# -- without a token ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.5.5.5", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", OWN_HOSTS)
def test_plain_call_from_this_machine_passes_both_sides(peer: str, host: bytes) -> None:
    guard().check_admin(peer, {b"host": host})
    guard().check_data(peer, {b"host": host})


@pytest.mark.parametrize("peer", ["10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "fe80::1%eth0", "2001:db8::1", "", "x"])
def test_admin_side_without_a_token_is_closed_to_other_machines(peer: str) -> None:
    with pytest.raises(Forbidden):
        guard().check_admin(peer, HERE)


@pytest.mark.parametrize("fields", FORWARDED)
def test_forwarded_call_is_not_from_this_machine(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(Forbidden):
        guard().check_admin(PEER, HERE | fields)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_call_under_another_name_is_refused_on_both_sides(host: bytes) -> None:
    for check in (guard().check_admin, guard().check_data):
        with pytest.raises(Forbidden):
            check(PEER, {b"host": host})


def test_call_without_a_host_is_refused_on_both_sides() -> None:
    for check in (guard().check_admin, guard().check_data):
        with pytest.raises(Forbidden):
            check(PEER, {})


@pytest.mark.parametrize("fields", BROWSER_MARKS)
def test_other_sites_page_is_refused_on_both_sides(fields: dict[bytes, bytes]) -> None:
    for check in (guard().check_admin, guard().check_data):
        with pytest.raises(Forbidden):
            check(PEER, HERE | fields)


@pytest.mark.parametrize("fields", PREFETCHES)
def test_prefetching_browser_starts_nothing_on_the_admin_side(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(Forbidden):
        guard().check_admin(PEER, HERE | fields)


@pytest.mark.parametrize("fields", OWN_MARKS)
def test_own_page_passes_both_sides(fields: dict[bytes, bytes]) -> None:
    guard().check_admin(PEER, HERE | fields)
    guard().check_data(PEER, HERE | fields)


def test_page_of_a_rebound_name_is_refused_although_its_origin_is_the_host() -> None:
    fields = {b"host": b"evil.test:8080", b"origin": b"http://evil.test:8080", b"sec-fetch-site": b"same-origin"}

    for check in (guard().check_admin, guard().check_data):
        with pytest.raises(Forbidden):
            check(PEER, fields)


def test_refusal_shows_a_hostile_host_escaped_and_cut() -> None:
    with pytest.raises(Forbidden) as raised:
        guard().check_data(PEER, {b"host": b"\x1b[31m\xff" + b"x" * 10_000})

    assert raised.value.message.isascii()
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 300


def test_host_that_passed_once_does_not_open_the_way_for_a_page() -> None:
    one = guard()
    one.check_data(PEER, HERE)

    with pytest.raises(Forbidden):
        one.check_data(PEER, HERE | {b"origin": b"https://evil.test"})


def test_hosts_that_passed_are_remembered_in_bounded_number() -> None:
    one = guard()

    for number in range(3000):
        one.check_data("10.0.0.1", {b"host": b"h%d" % number})

    assert len(one._passed) <= 1000


# -- what the operator opens ----------------------------------------------------------------------------------------


def test_allowed_host_opens_both_sides_for_callers_on_this_machine() -> None:
    one = guard(hosts=["Proxy.Lan"])

    one.check_data(PEER, {b"host": b"proxy.lan:8080"})
    one.check_admin(PEER, {b"host": b"PROXY.lan"})
    with pytest.raises(Forbidden):
        one.check_data(PEER, {b"host": b"other.lan"})


def test_allowed_origin_opens_the_data_side_only() -> None:
    one = guard(origins=["https://App.example"])
    fields = HERE | {b"origin": b"https://app.example", b"sec-fetch-site": b"cross-site"}

    one.check_data(PEER, fields)
    with pytest.raises(Forbidden):
        one.check_admin(PEER, fields)


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ([], b"https://app.example", False),
        (["https://app.example"], b"https://app.example", True),
        (["https://app.example"], b"http://app.example", False),
        (["https://app.example"], b"https://app.example.evil.test", False),
        (["https://app.example"], b"null", False),
        (["null"], b"null", True),
        (["*"], b"https://any.test", True),
    ],
)
def test_origin_is_allowed_only_as_it_is_configured(origins: list[str], origin: bytes, allowed: bool) -> None:
    found = guard(origins=origins).allowed_origin({b"origin": origin})

    assert found == (origin if allowed else None)


def test_call_without_an_origin_gets_no_cors_answer() -> None:
    assert guard(origins=["*"]).allowed_origin({}) is None


# -- with a token ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_right_token_passes_from_anywhere(scheme: bytes) -> None:
    one = guard(token=TOKEN)

    one.check_admin("10.0.0.1", {b"host": b"proxy.lan", b"authorization": scheme + b" " + TOKEN.encode()})


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer Tok-3n",
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer " + TOKEN.encode() + b"x",
        b"Bearer " + TOKEN.encode()[:-1],
        b"Bearer " + TOKEN.encode().upper(),
        b"Bearer " + TOKEN.encode("latin-1"),
        b"Bearer \xff\xfe\x00",
        "Bearer ключ".encode(),
    ],
)
def test_any_other_token_is_unauthorized_even_on_this_machine(sent: bytes) -> None:
    with pytest.raises(Unauthorized):
        guard(token=TOKEN).check_admin(PEER, HERE | {b"authorization": sent})


def test_missing_token_is_unauthorized_even_on_this_machine() -> None:
    with pytest.raises(Unauthorized):
        guard(token=TOKEN).check_admin(PEER, HERE)


def test_empty_token_in_the_configuration_is_no_token() -> None:
    with pytest.raises(Forbidden):
        guard(token="").check_admin("10.0.0.1", HERE | {b"authorization": b"Bearer "})


@given(st.binary(max_size=40))
def test_no_bytes_but_the_token_ever_pass_or_raise_anything_else(sent: bytes) -> None:
    assert not guard(token=TOKEN).is_admin(PEER, HERE | {b"authorization": b"Bearer " + sent})


# -- names ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_any_host_is_read_without_raising(host: bytes) -> None:
    name = host_name(host)

    assert not set(name) & set(" \t\r\n/@?#\\[]")


@given(st.text(max_size=30))
def test_any_address_is_judged_without_raising(address: str) -> None:
    assert is_loopback_address(address) in (True, False)
