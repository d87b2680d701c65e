"""A release that is looked into: what it can be asked beside pages, which none of that changes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from upnext.insight import ItemAgeing, ItemCard, ItemDays, ItemMap, Neighbours, UserCard, UserPast
from upnext.schema import Id, LivePast

T = TypeVar("T")


class Insight(Protocol):
    """What tells of one release; called from several threads at once.

    An item that the release does not know raises RequestError, whose `where` is "item_id".
    """

    def items(self, text: str, k: int) -> Sequence[ItemCard]:
        """The first k items that a text finds."""

    def item(self, item_id: Id) -> ItemDays:
        """One item, day by day."""

    def neighbours(self, item_id: Id, k: int) -> Neighbours:
        """The k items most like one, in truth and as the index finds them."""

    def ageing(
        self, item_id: Id, example_age_days: float, num_users: int
    ) -> Iterator[ItemAgeing | None]:
        """Probabilities by days since publication: None for each step, then the answer."""

    def users(self, text: str, k: int) -> Sequence[UserCard]:
        """The first k users whose ids begin with a text."""

    def user_id(self, told: Id) -> Id:
        """A user's id in the owner's type."""

    def past(self, user_id: Id, num: int, live: LivePast | None) -> UserPast:
        """The last `num` watches and searches of a user."""

    def map(self) -> ItemMap:
        """Items on a plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked(Generic[T]):
    """What was seen, in which release, and the label that led there; None: a version was named."""

    seen: T
    release: str
    label: str | None
