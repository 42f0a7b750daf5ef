"""The admin routes under `/keys`."""

from collections.abc import Callable
from urllib.parse import quote

from plugins.keys.account import to_usd
from plugins.keys.book import Book, VirtualKey
from plugins.keys.keeper import Keeper
from plugins.keys.orders import check_query, invalid, read_grace, read_settings
from plugins.keys.settings import KeySettings
from plugins.keys.text import digest_of, is_id, new_id, new_text, shown
from plugins.keys.windows import Calendar
from proxy.callers import CALLER_KINDS, is_address
from proxy.errors import UnknownPath
from proxy.events import Events
from proxy.plugin import AdminReply, AdminRequest, AdminRoute
from proxy.values import timestamp

JsonObject = dict[str, object]

CREATED = 201


class KeyRoutes:
    """Answers operators about keys. The text of a key is in the answer that makes it, and nowhere else.

    Args:
        wall_clock: seconds since 1970.
    """

    def __init__(self, keeper: Keeper, calendar: Calendar, events: Events, wall_clock: Callable[[], float]) -> None:
        self._keeper = keeper
        self._calendar = calendar
        self._events = events
        self._wall_clock = wall_clock

    def routes(self) -> list[AdminRoute]:
        """List the routes."""
        return [
            AdminRoute("GET", "/keys", self._list, "Every virtual key with what it has spent."),
            AdminRoute("POST", "/keys", self._create, "Make a virtual key; it is shown this once."),
            AdminRoute("GET", "/keys/{id}", self._show, "One virtual key."),
            AdminRoute("PATCH", "/keys/{id}", self._change, "Merge into the settings of a virtual key."),
            AdminRoute("DELETE", "/keys/{id}", self._revoke, "Revoke a virtual key; no new request passes with it."),
            AdminRoute("POST", "/keys/{id}/rotate", self._rotate, "Replace its text; it is shown this once."),
        ]

    async def _list(self, request: AdminRequest) -> JsonObject:
        self._keeper.check()
        return {"keys": [self._describe(key) for key in self._keeper.book]}

    async def _show(self, request: AdminRequest) -> JsonObject:
        self._keeper.check()
        return self._describe(_find(self._keeper.book, request))

    async def _create(self, request: AdminRequest) -> AdminReply:
        check_query(request)
        now_s = self._wall_clock()
        settings = read_settings(request.body, {}, now_s)
        key_id = new_id()
        while self._keeper.book.get(key_id) is not None:
            key_id = new_id()
        text = new_text(key_id)

        def make(book: Book) -> VirtualKey:
            _check_name(book, settings)
            return VirtualKey(key_id, digest_of(text), settings, now_s)

        key = await self._keeper.put(make)
        self._tell("created", key, request)
        return AdminReply(self._describe(key, text), CREATED, headers=(("Location", f"/keys/{key_id}"),))

    async def _change(self, request: AdminRequest) -> JsonObject:
        check_query(request)

        def make(book: Book) -> VirtualKey:
            key = _find(book, request)
            settings = read_settings(request.body, key.document, self._wall_clock())
            _check_name(book, settings, key)
            return key.with_settings(settings)

        key = await self._keeper.put(make)
        self._tell("changed", key, request)
        return self._describe(key)

    async def _rotate(self, request: AdminRequest) -> JsonObject:
        grace_s, now_s = read_grace(request), self._wall_clock()
        text = ""

        def make(book: Book) -> VirtualKey:
            nonlocal text
            key = _find(book, request)
            text = new_text(key.id)
            return key.rotated(digest_of(text), grace_s, now_s)

        key = await self._keeper.put(make)
        self._tell("rotated", key, request)
        return self._describe(key, text)

    async def _revoke(self, request: AdminRequest) -> JsonObject:
        check_query(request)
        key = await self._keeper.remove(lambda book: _find(book, request))
        self._tell("revoked", key, request)
        return {"id": key.id, "name": key.settings.name, "revoked": True}

    # -- words -------------------------------------------------------------------------------------------------------

    def _describe(self, key: VirtualKey, text: str | None = None) -> JsonObject:
        """Show a key; its text is shown to who made it, and only then."""
        now_s = self._wall_clock()
        windows = self._calendar.at(now_s)
        spent, earlier = key.account.spent_at(windows), key.earlier
        return {
            "id": key.id,
            "key": text or shown(key.id),
            "state": key.state_at(now_s),
            **key.document,
            "spend": {
                "today": to_usd(spent.day_nanos),
                "thisMonth": to_usd(spent.month_nanos),
                "total": to_usd(spent.total_nanos),
                "held": to_usd(key.account.reserved),
                "dayEnds": timestamp(windows.day_ends_s),
                "monthEnds": timestamp(windows.month_ends_s),
            },
            "createdAt": timestamp(key.created_s),
            "rotatedAt": None if key.rotated_s is None else timestamp(key.rotated_s),
            "earlierWorksUntil": None if earlier is None or now_s >= earlier.until_s else timestamp(earlier.until_s),
            "lastUsedAt": None if spent.last_used_s is None else timestamp(spent.last_used_s),
        }

    def _tell(self, what: str, key: VirtualKey, request: AdminRequest) -> None:
        message = f"API key {key.settings.name} ({key.id}) {what} by {request.author}"
        self._events.emit("INFO", f"key_{what}", message, key_id=key.id)


def _find(book: Book, request: AdminRequest) -> VirtualKey:
    wanted = request.params["id"]
    key = book.called(wanted)
    if key is None:
        raise UnknownPath(f"there is no key {quote(wanted[:64])}; GET /keys lists those that are there")
    return key


def _check_name(book: Book, settings: KeySettings, key: VirtualKey | None = None) -> None:
    """Refuse a name that means somebody else wherever callers are named, by their ids and addresses, too."""
    name = settings.name
    if key is not None and name == key.settings.name:
        return
    if is_id(name) or is_address(name) or name.startswith(CALLER_KINDS):
        raise invalid("name", "it reads like an id or an address, by which other callers are named")
    other = book.named(name)
    if other is not None and (key is None or other.id != key.id):
        raise invalid("name", f"the key {other.id} has this name")
