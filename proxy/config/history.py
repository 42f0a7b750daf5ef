"""The state folder's memory of the configuration: its revisions, and the secrets that they name by id."""

from pathlib import Path
from typing import Any, Final

from proxy.config.document import read_regular_file
from proxy.config.revisions import Revision, Revisions
from proxy.config.secrets import Secrets, SecretStore, ids_in
from proxy.durable import flush_folder, replace_file, seal, set_aside, unseal

SECRETS_FILE: Final = "secrets.json"
MAX_SECRETS_BYTES: Final = 64 << 20


class History:
    """Revisions with their secrets, in a folder which one process holds. Blocks on the disk: call it from a thread.

    Args:
        folder: the state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._damage: list[str] = []
        self._revisions = Revisions(folder / "revisions", self._damage.append)
        self._named: dict[int, frozenset[str]] = {}
        self._saved: Secrets = {}
        self._highest = 0

    def open(self) -> tuple[Revision | None, SecretStore]:
        """Read what earlier processes left; to be called first.

        Raises:
            OSError: the folder cannot be read.
        """
        newest = self._revisions.newest()
        self._saved = self._read_secrets()
        if self._saved:
            for number in self._revisions.numbers():
                if (revision := self._revisions.get(number)) is not None:
                    self._named[number] = _ids_of(revision)
        self._highest = self._revisions.highest()
        if not self._damage and self._highest > (newest.number if newest else 0):
            self._damage.append(f"revisions up to {self._highest} were damaged, and set aside by an earlier process")
        return newest, SecretStore(self._saved)

    def take_damage(self) -> list[str]:
        """Give what was found damaged and set aside since the last call, each in a line for the operator."""
        found, self._damage[:] = list(self._damage), []
        return found

    @property
    def next_number(self) -> int:
        """The number for the next revision: above all that were ever used."""
        return self._highest + 1

    def skip(self) -> None:
        """Use up a number for a revision that could not be written, so that no other one gets it."""
        self._highest += 1

    def numbers(self) -> list[int]:
        """List the revisions there are, oldest first."""
        return self._revisions.numbers()

    def get(self, number: int) -> Revision | None:
        """Read one revision; None if it is not there or damaged."""
        return self._revisions.get(number)

    def save(self, revision: Revision, store: SecretStore, keep: int) -> None:
        """Write a revision, before it the secrets it names; when this returns, both survive a crash of the machine.

        Args:
            revision: with ids where secrets stand.
            store: knows the secrets; those that no kept revision names are left out of the file, and forgotten.
            keep: how many revisions may be there afterwards.
        Raises:
            OSError: the disk is full or fails; then the revision is not there.
        """
        named = {number: ids for number, ids in self._named.items() if ids} | {revision.number: _ids_of(revision)}
        known = store.known
        wanted = {secret_id: known[secret_id] for ids in named.values() for secret_id in ids if secret_id in known}
        if wanted != self._saved:
            self._write_secrets(wanted)
        self._revisions.add(revision, keep)
        self._highest = max(self._highest, revision.number)
        there = set(self._revisions.numbers())
        self._named = {number: ids for number, ids in named.items() if number in there}
        store.keep({secret_id for ids in self._named.values() for secret_id in ids})

    def _read_secrets(self) -> Secrets:
        path = self._folder / SECRETS_FILE
        path.with_suffix(".tmp").unlink(missing_ok=True)  # what a crash left half written holds secrets
        try:
            content = unseal(read_regular_file(path, MAX_SECRETS_BYTES))
            return {secret_id: (tuple(one["path"]), str(one["text"])) for secret_id, one in content["secrets"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._damage.append(f"{path} cannot be used ({error}); it was set aside as {set_aside(path)}")
            return {}

    def _write_secrets(self, wanted: Secrets) -> None:
        content: dict[str, Any] = {  # Any: JSON
            secret_id: {"path": list(path), "text": text} for secret_id, (path, text) in sorted(wanted.items())
        }
        replace_file(self._folder / SECRETS_FILE, seal({"secrets": content}))
        flush_folder(self._folder)
        self._saved = wanted


def _ids_of(revision: Revision) -> frozenset[str]:
    inverses = [one.inverse for one in revision.pending]
    return frozenset(ids_in([revision.document, revision.base, list(revision.diff), inverses]))
