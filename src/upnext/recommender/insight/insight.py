"""One release, to be looked into; what takes long to make is made once, and goes with it."""

from collections.abc import Iterator

from upnext.insight import ItemAgeing, ItemCard, ItemDays, ItemMap, Neighbours, UserCard, UserPast
from upnext.recommender.insight.ageing import Ageing
from upnext.recommender.insight.cards import cards
from upnext.recommender.insight.item_days import days_of
from upnext.recommender.insight.item_map import map_of
from upnext.recommender.insight.item_search import ItemSearch
from upnext.recommender.insight.keeping import Once
from upnext.recommender.insight.neighbours import neighbours_of
from upnext.recommender.insight.past import past_of_user
from upnext.recommender.insight.users import find_users, last_watches_ms
from upnext.recommender.lists import lengths_of
from upnext.recommender.opened import OpenedRelease
from upnext.schema import Id, LivePast


class Insight:
    """What can be asked of a release beside pages; nothing here changes what pages hold.

    Used from several threads at once. Items that the release does not know raise RequestError,
    whose `where` is "item_id".
    """

    def __init__(self, release: OpenedRelease) -> None:
        self._release = release
        self._item_search = Once(lambda: ItemSearch(release.encoder.catalogue))
        self._lengths = Once(lambda: lengths_of(release.retriever.item_vectors))
        self._ageing = Once(lambda: Ageing(release))
        self._last_watches_ms = Once(lambda: last_watches_ms(release.history.watches))
        self._map = Once(lambda: map_of(release))

    def items(self, text: str, k: int) -> list[ItemCard]:
        """The first k that a text finds; see `ItemSearch`."""
        return cards(self._release.encoder.catalogue, self._item_search().rows(text, k))

    def item(self, item_id: Id) -> ItemDays:
        """One item, day by day."""
        row = self._release.item_row(item_id)
        return ItemDays(
            item=cards(self._release.encoder.catalogue, [row])[0],
            known_until_ms=self._release.known_until_ms,
            per_day=days_of(self._release.history.item_counts, row),
        )

    def neighbours(self, item_id: Id, k: int) -> Neighbours:
        """The k items most like one, in truth and as the index finds them."""
        return neighbours_of(self._release, self._release.item_row(item_id), k, self._lengths())

    def ageing(
        self, item_id: Id, example_age_days: float, num_users: int
    ) -> Iterator[ItemAgeing | None]:
        """Figure 4 of one item, in steps: None while there is more to do, then the answer."""
        return self._ageing().of_item(self._release.item_row(item_id), example_age_days, num_users)

    def users(self, text: str, k: int) -> list[UserCard]:
        """The first k whose ids begin with a text, those of the latest watches first."""
        release = self._release
        watches, last_ms = release.history.watches, self._last_watches_ms()
        return find_users(release.users, watches, last_ms, text, k)

    def user_id(self, told: Id) -> Id:
        """A user's id in the owner's type: the integer that a text writes, where ids are such."""
        return self._release.users.as_owned(told)

    def past(self, user_id: Id, num: int, live: LivePast | None) -> UserPast:
        """The last `num` watches and searches of a user, whom the release need not know."""
        return past_of_user(self._release, user_id, num, live)

    def map(self) -> ItemMap:
        """Items on a plane."""
        return self._map()
