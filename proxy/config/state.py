"""The state folder: held by one process at a time, and where the command line finds the running proxy."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import orjson

from proxy.durable import replace_file
from proxy.errors import ConfigError, Fault

ADDRESS_FILE: Final = "address.json"


class StateFolder:
    """The folder, made if it is missing, and held until `close`.

    Raises:
        ConfigError: another process holds it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)

    def publish(self, url: str) -> None:
        """Tell the command line where the admin side answers: `{"url": str, "pid": int}`. Raises OSError."""
        replace_file(self.path / ADDRESS_FILE, orjson.dumps({"url": url, "pid": os.getpid()}))

    def close(self) -> None:
        """Let another process have it."""
        with suppress(OSError):
            (self.path / ADDRESS_FILE).unlink(missing_ok=True)
        self._lock.close()


def _lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        message = f"state.dir {folder} cannot be used: {(error.strerror or str(error)).lower()}"
        raise ConfigError(message, [Fault("state.dir", message)]) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        message = f"state.dir {folder} is held by another running proxy; give this one a folder of its own"
        raise ConfigError(message, [Fault("state.dir", message)]) from error
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    with suppress(OSError):  # a full disk: the lock counts, its content is for people
        lock.flush()
    return lock
