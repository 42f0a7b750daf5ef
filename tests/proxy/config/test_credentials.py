"""Keys from files: one line of a small regular file, or a refusal that shows nothing of it."""

import os
from pathlib import Path

import pytest

from proxy.config.credentials import credentials, read_key_file
from proxy.config.models import ProviderSettings
from proxy.errors import ConfigError

CANARY = "canary-4f9a77e1"


def provider(**keys: object) -> ProviderSettings:
    return ProviderSettings.model_validate({"type": "openai", "baseUrl": "https://a.example/v1", **keys})


def test_key_comes_from_the_document_or_the_file_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY + "\n")

    assert credentials(provider(apiKey="sk-x")) == ("sk-x",)
    assert credentials(provider(apiKeyFile=str(tmp_path / "key"))) == (CANARY,)
    assert credentials(provider(apiKeys=["sk-1", "", "sk-2"])) == ("sk-1", "sk-2")
    assert credentials(provider()) == ()
    assert credentials(provider(apiKey="", apiKeyFile="")) == ()


def test_rotated_key_is_found_at_the_next_call(tmp_path: Path) -> None:
    settings = provider(apiKeyFile=str(tmp_path / "key"))
    (tmp_path / "key").write_text("first")
    first = credentials(settings)
    (tmp_path / "key").write_text("second\r\n")

    assert (first, credentials(settings)) == (("first",), ("second",))


def test_link_as_container_platforms_mount_it_is_followed(tmp_path: Path) -> None:
    (tmp_path / "data").write_text(CANARY)
    (tmp_path / "key").symlink_to(tmp_path / "data")

    assert read_key_file(tmp_path / "key") == CANARY


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (f"{CANARY}\n{CANARY}\n".encode(), "one line of visible ASCII"),
        (f"{CANARY}\n\n".encode(), "one line of visible ASCII"),
        (f"{CANARY} x".encode(), "one line of visible ASCII"),
        (f"{CANARY}\x00".encode(), "one line of visible ASCII"),
        (f"{CANARY}ä".encode(), "one line of visible ASCII"),
        (f"{CANARY}\xff".encode("latin-1"), "is not UTF-8 text"),
        (CANARY.encode() * 10_000, "is larger than 65,536 bytes"),
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(ConfigError, match=message) as caught:
        read_key_file(tmp_path / "key")

    assert CANARY not in caught.value.message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_special_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    for path in (Path("/dev/zero"), tmp_path / "fifo", tmp_path, tmp_path / "missing", Path("/etc/passwd")):
        with pytest.raises(ConfigError):
            read_key_file(path)
