"""Owner of the keys and of the file that keeps them: no change counts before it is on the disk."""

import asyncio
from collections.abc import Awaitable, Callable
from errno import ENOSPC
from pathlib import Path
from typing import Final

from plugins.keys import file
from plugins.keys.book import Book, VirtualKey
from proxy.errors import ProxyError, Refused, StorageFailed, StorageFull
from proxy.events import Events
from proxy.plugin import Spawn

SLICE: Final = 200
"""Keys that are looked at before others have their turn: about 0.3 ms."""


class Keeper:
    """Keeps the book and its file alike.

    Args:
        folder: the state folder.
        spawn: for writing, which goes on when the operator who asked for it leaves.
    """

    def __init__(self, folder: Path, events: Events, spawn: Spawn) -> None:
        self.book = Book()
        self.trouble: str | None = None
        """Why nobody can be let in, and what mends it; None while all is well."""
        self.is_changed = False
        """Something was spent since it was last written down."""
        self._folder = folder
        self._events = events
        self._spawn = spawn
        self._turn = asyncio.Lock()
        self._is_unsaved = False

    async def load(self) -> None:
        """Read the file; where that fails, the trouble is told and stays."""
        try:
            self.book = Book(await asyncio.to_thread(file.read, self._folder))
        except file.Unusable as error:
            self.trouble = str(error)
            self._events.emit("ERROR", "keys_unusable", f"no key lets anybody in: {error}")

    def check(self) -> None:
        """Raise Refused while the keys cannot be used."""
        if self.trouble is not None:
            raise Refused(self.trouble, code="keys_unusable", status=503)

    async def put(self, make: Callable[[Book], VirtualKey]) -> VirtualKey:
        """Add or change a key.

        Args:
            make: gives it, from the book as it is when the changes before this one are done.
        Raises:
            StorageFailed: it could not be written; nothing has changed.
            ProxyError: whatever `make` raises.
        """
        return await self._unbroken(make, self._put)

    async def remove(self, find: Callable[[Book], VirtualKey]) -> VirtualKey:
        """Take a key away. Raises as `put`."""
        return await self._unbroken(find, self._remove)

    async def save(self) -> None:
        """Write down what was spent, if anything was; a failure is told once and tried again by the next call."""
        async with self._turn:
            if not self.is_changed or self.trouble is not None:
                return
            self.is_changed = False
            try:
                await self._write(list(self.book))
            except StorageFailed as error:
                self.is_changed = True
                if not self._is_unsaved:
                    self._events.emit("ERROR", "keys_unsaved", f"what keys have spent is not kept: {error.message}")
                self._is_unsaved = True
                return
            self._is_unsaved = False

    async def save_regularly(self, every_s: Callable[[], float]) -> None:
        """Save again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(every_s())
            await self.save()

    async def _put(self, key: VirtualKey) -> None:
        await self._write([*(other for other in self.book if other.id != key.id), key])
        self.book.put(key)

    async def _remove(self, key: VirtualKey) -> None:
        await self._write([other for other in self.book if other.id != key.id])
        self.book.remove(key.id)

    async def _unbroken(
        self, make: Callable[[Book], VirtualKey], apply: Callable[[VirtualKey], Awaitable[None]]
    ) -> VirtualKey:
        """Make a change whole, even if who asked for it leaves: the file and the book must not differ."""
        outcome: VirtualKey | ProxyError = await asyncio.shield(
            self._spawn(self._in_turn(make, apply), name="change of a key")
        )
        if isinstance(outcome, ProxyError):
            raise outcome
        return outcome

    async def _in_turn(
        self, make: Callable[[Book], VirtualKey], apply: Callable[[VirtualKey], Awaitable[None]]
    ) -> VirtualKey | ProxyError:
        """Give the error instead of raising it: as a failure of the task it would be told to operators."""
        async with self._turn:
            try:
                self.check()
                key = make(self.book)
                await apply(key)
            except ProxyError as error:
                return error
            return key

    async def _write(self, keys: list[VirtualKey]) -> None:
        rows: list[file.Row] = []
        for begin in range(0, len(keys), SLICE):
            rows += [(key, key.account.to_write()) for key in keys[begin : begin + SLICE]]
            await asyncio.sleep(0)
        try:
            await asyncio.to_thread(self._write_rows, rows)
        except OSError as error:
            message = f"{self._folder / file.NAME} cannot be written: {(error.strerror or str(error)).lower()}"
            raise (StorageFull if error.errno == ENOSPC else StorageFailed)(message) from error

    def _write_rows(self, rows: list[file.Row]) -> None:
        file.write(self._folder, file.encode(rows))
