"""Revisions and their secrets come back together, and a secret nobody names any more is forgotten."""

import stat
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from proxy.config.history import History
from proxy.config.revisions import Pending, Revision
from proxy.config.secrets import SecretStore, ids_in, reveal
from proxy.durable import seal

CANARY = "sk-canary-3fa91b77c0de"


def revision(number: int, *, token: object = None, pending: tuple[Pending, ...] = ()) -> Revision:
    document = {"admin": {"token": token}} if token is not None else {}
    return Revision(number, 1.0, "a", "", "api", document, {}, pending=pending)


def open_history(folder: Path) -> tuple[History, Revision | None, SecretStore, list[str]]:
    history = History(folder)
    newest, store = history.open()
    return history, newest, store, history.take_damage()


def test_revision_and_its_secret_come_back(tmp_path: Path) -> None:
    history, newest, store, _ = open_history(tmp_path)
    secret_id = store.id_of(("admin", "token"), CANARY)
    history.save(revision(1, token={"$secret": secret_id}), store, 10)

    _, again, known, told = open_history(tmp_path)

    assert newest is None
    assert again == revision(1, token={"$secret": secret_id})
    assert reveal(again.document, known, []) == {"admin": {"token": CANARY}}
    assert known.id_of(("admin", "token"), CANARY) == secret_id
    assert told == []


def test_secret_stands_in_one_file_that_only_the_owner_can_read(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    history.save(revision(1, token={"$secret": store.id_of(("admin", "token"), CANARY)}), store, 10)

    holders = [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]

    assert holders == [tmp_path / "secrets.json"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600


def test_secret_is_kept_as_long_as_a_kept_revision_names_it(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    first = store.id_of(("admin", "token"), CANARY + "a")
    history.save(revision(1, token={"$secret": first}), store, 2)
    second = store.id_of(("admin", "token"), CANARY + "b")
    history.save(revision(2, token={"$secret": second}), store, 2)
    history.save(revision(3), store, 2)
    history.save(revision(4), store, 2)

    known = open_history(tmp_path)[2].known

    assert (list(known), list(store.known)) == ([second], [])  # the file follows with the next revision
    history.save(revision(5), store, 2)
    assert open_history(tmp_path)[2].known == {}


def test_secret_in_what_a_pending_change_takes_back_is_kept(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    secret_id = store.id_of(("admin", "token"), CANARY)
    inverse = {"admin": {"token": {"$secret": secret_id}}}
    history.save(revision(1, pending=(Pending(1, 5.0, inverse),)), store, 2)

    _, newest, known, _ = open_history(tmp_path)

    assert newest is not None
    assert newest.pending == (Pending(1, 5.0, inverse),)
    assert known.text_of(secret_id) == CANARY


def test_secret_that_only_a_refused_change_knew_is_not_written(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    store.id_of(("admin", "token"), CANARY)

    history.save(revision(1), store, 2)

    assert not (tmp_path / "secrets.json").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"sha256": "0", "secrets": {}}', b"\xff\xfe"])
def test_damaged_secrets_are_set_aside_and_told(tmp_path: Path, damage: bytes) -> None:
    history, _, store, _ = open_history(tmp_path)
    history.save(revision(1, token={"$secret": store.id_of(("a",), CANARY)}), store, 10)
    (tmp_path / "secrets.json").write_bytes(damage)

    _, newest, known, told = open_history(tmp_path)

    assert newest is not None
    assert (list(ids_in(newest.document)) != [], known.known) == (True, {})
    assert len(told) == 1
    assert "secrets.json" in told[0]
    assert [path.name.startswith("secrets.json.corrupt-") for path in tmp_path.glob("secrets.json*")] == [True]


def test_number_of_a_damaged_revision_is_not_given_again(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    for number in (1, 2, 3):
        history.save(revision(number), store, 10)
    (tmp_path / "revisions" / "00000003.json").write_bytes(b"{}")

    history, newest, _, told = open_history(tmp_path)

    assert newest is not None
    assert (newest.number, history.next_number, len(told)) == (2, 4, 1)
    history.save(replace(newest, number=4), store, 10)
    assert history.numbers() == [1, 2, 4]


def test_revision_of_another_version_is_set_aside(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    history.save(revision(1), store, 10)
    path = tmp_path / "revisions" / "00000001.json"
    content = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({"revision": {**content["revision"], "pending": [{"new": 1}]}}))

    assert open_history(tmp_path)[1] is None


def test_revision_of_a_newer_program_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    history.save(revision(1), store, 10)
    path = tmp_path / "revisions" / "00000001.json"
    content = orjson.loads(path.read_bytes())["revision"]
    path.write_bytes(seal({"revision": {**content, "ofTheFuture": 1}}))

    _, newest, _, told = open_history(tmp_path)

    assert (newest, told) == (revision(1), [])


def test_what_a_crash_left_half_written_of_the_secrets_is_removed(tmp_path: Path) -> None:
    (tmp_path / "secrets.tmp").write_text(CANARY)

    open_history(tmp_path)

    assert not (tmp_path / "secrets.tmp").exists()


def test_revision_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    history, _, store, _ = open_history(tmp_path)
    document = {"models": {"a": ["x" * (17 << 20)]}}

    with pytest.raises(OSError, match="the limit is"):
        history.save(replace(revision(1), document=document), store, 10)

    assert history.numbers() == []
