"""Where commands deal with dead letters and quarantined bodies, wherever those are."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Never, Protocol, TypeAlias, TypeVar

from relay.cli.admin_api import AdminApi
from relay.http.admin.schemas import Affected, Choice, DeadLetterAnswer, Listing, QuarantinedAnswer

PAGE_ITEMS: Final = 100
"""Bodies have up to 4 MiB, and a page is held in memory."""

Item = TypeVar("Item", bound=DeadLetterAnswer | QuarantinedAnswer)
Item_co = TypeVar("Item_co", bound=DeadLetterAnswer | QuarantinedAnswer, covariant=True)


class Page(Protocol[Item_co]):
    """Some items, oldest first."""

    @property
    def items(self) -> Sequence[Item_co]:
        """The items."""

    @property
    def next(self) -> int | None:
        """The `after` of the page that follows, None on the last."""


class Desk(Protocol[Item_co]):
    """One kind of items, and what can be done with them."""

    async def page(self, asked: Listing) -> Page[Item_co]:
        """Return the items that were asked for."""

    async def retry(self, choice: Choice) -> int:
        """Try the chosen items again; return how many changed, or would."""

    async def discard(self, choice: Choice) -> int:
        """Throw the chosen items away; return how many, or would."""


ReadPage: TypeAlias = Callable[[AdminApi, str, Mapping[str, str]], Awaitable[Page[Item]]]


async def walk(
    desk: Desk[Item], app: str | None = None, reason: str | None = None
) -> AsyncIterator[Item]:
    """Yield all items of an app and with a reason, or of any, oldest first."""
    after: int | None = 0
    while after is not None:
        page = await desk.page(Listing(app=app, reason=reason, limit=PAGE_ITEMS, after=after))
        for item in page.items:
            yield item
        after = page.next


async def find(desk: Desk[Item], number: int) -> Item | None:
    """Return the item with an id, None if there is none."""
    page = await desk.page(Listing(limit=1, after=number - 1))
    return next((item for item in page.items if item.id == number), None)


class ApiDesk(Generic[Item]):
    """The items of a running daemon.

    Args:
        api: The daemon's.
        path: Where the items are in it.
        read_page: Reads a page of them, given where and which.
    """

    def __init__(self, api: AdminApi, path: str, read_page: ReadPage[Item]) -> None:
        self._api = api
        self._path = path
        self._read_page = read_page

    async def page(self, asked: Listing) -> Page[Item]:
        """Return the items that were asked for."""
        query = {name: str(value) for name, value in asked.model_dump(exclude_none=True).items()}
        return await self._read_page(self._api, self._path, query)

    async def retry(self, choice: Choice) -> int:
        """Try the chosen items again; return how many changed, or would."""
        return await self._act("retry", choice)

    async def discard(self, choice: Choice) -> int:
        """Throw the chosen items away; return how many, or would."""
        return await self._act("discard", choice)

    async def _act(self, verb: str, choice: Choice) -> int:
        body = choice.model_dump(mode="json", exclude_none=True)
        return (await self._api.post(f"{self._path}/{verb}", Affected, body)).affected


class EmptyDesk:
    """No items: there is no outbox yet."""

    async def page(self, asked: Listing) -> Page[Never]:  # noqa: ARG002  as every desk
        """Return nothing."""
        return _EmptyPage()

    async def retry(self, choice: Choice) -> int:  # noqa: ARG002
        """Change nothing."""
        return 0

    async def discard(self, choice: Choice) -> int:  # noqa: ARG002
        """Change nothing."""
        return 0


@dataclass(frozen=True, slots=True)
class _EmptyPage:
    items: tuple[Never, ...] = ()
    next: None = None
