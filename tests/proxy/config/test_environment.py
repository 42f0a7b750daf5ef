"""HTTP proxies from the environment, and who is exempt."""

import pytest

from proxy.config.environment import bypasses_proxy, is_loopback, proxy_for, read_environment

URL = "https://api.example:8443/v1"


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        ("none", {"https_proxy": "http://p:1"}, None),
        ("http://own:3128", {"https_proxy": "http://p:1", "no_proxy": "*"}, "http://own:3128"),
        ("env", {}, None),
        ("env", {"https_proxy": "http://p:1"}, "http://p:1"),
        ("env", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("env", {"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "http://low:1"),
        ("env", {"http_proxy": "http://p:1"}, None),
        ("env", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("env", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("env", {"https_proxy": "", "HTTPS_PROXY": " "}, None),
        ("env", {"https_proxy": "http://p:1", "NO_PROXY": "example"}, None),
    ],
)
def test_proxy_is_chosen(setting: str, environ: dict[str, str], expected: str | None) -> None:
    assert proxy_for(URL, setting, environ) == expected


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("http://a.example", "", False),
        ("http://a.example", "*", True),
        ("http://a.example", "a.example", True),
        ("http://a.example", "b.example, A.EXAMPLE", True),
        ("http://a.example.", "a.example", True),
        ("http://a.example", ".example", True),
        ("http://a.example", "*.example", True),
        ("http://aexample", "example", False),
        ("http://a.example", "example b", True),
        ("http://a.example:81", "a.example:81", True),
        ("http://a.example:81", "a.example:82", False),
        ("https://a.example", "a.example:443", True),
        ("http://10.1.2.3", "10.0.0.0/8", True),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://10.1.2.3:80", "10.1.2.3:80", True),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://11.1.2.3", "3", False),
        ("http://[fd00::1]", "fd00::/8", True),
        ("http://[fd00::1]:80", "[fd00::1]:80", True),
        ("http://[::ffff:10.1.2.3]", "10.0.0.0/8", True),
        ("http://localhost:1234", "", True),
        ("http://127.0.0.9", "", True),
        ("http://[::1]", "", True),
        ("http://a.example", ", ,", False),
        ("http://a.example", ".", False),
    ],
)
def test_no_proxy_list(url: str, no_proxy: str, expected: bool) -> None:
    assert bypasses_proxy(url, no_proxy) is expected


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]
)
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "localhost.example", "example"])
def test_other_addresses_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_X", "before")
    environ = read_environment()
    monkeypatch.setenv("SWITCHYARD_X", "after")

    assert environ["SWITCHYARD_X"] == "before"
