"""What a server tells of items on a plane, and of what lies near one of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from tests.console.fake_server import Answer, Asked

Json = dict[str, Any]
DAY_MS = 86_400_000
UNTIL_MS = 1_770_163_331_000
OF_RELEASE = {"release": "2", "label": "stable"}


def card(number: int, item_id: str | int) -> Json:
    """An `ItemCard`; some know little of themselves."""
    topic = number % 12
    return {
        "item_id": item_id,
        "title": f"Topic {topic}, <b>part</b> {number}" if number % 10 else None,
        "channel_id": f"c{topic}" if number % 17 else None,
        "tags": [f"tag {number % 5}"] if number % 3 else [],
        "duration_s": 60.0 + number,
        "published_at_ms": UNTIL_MS - number % 300 * DAY_MS if number % 19 else None,
        "num_watches": number * number % 997,
    }


@dataclass
class FakeMap:
    """Twelve clouds of items. Every fifth item is not drawn; those of its cloud are near it.

    Where items are few, all are near each other.
    """

    num_items: int = 400
    ids: Sequence[str | int] = ()
    cards: list[Json] = field(init=False)

    def __post_init__(self) -> None:
        ids = self.ids or [f"v{number:05}" for number in range(self.num_items)]
        self.cards = [card(number, item_id) for number, item_id in enumerate(ids)]

    def answers(self) -> dict[str, Answer]:
        """For a `FakeServer`."""
        items = {f"GET /insight/v1/items/{one['item_id']}": self._item for one in self.cards}
        return {
            "GET /insight/v1/map": self.told(),
            "GET /insight/v1/items": self._search,
            "GET /insight/v1/neighbours": self._near,
            **items,
        }

    def told(self) -> Json:
        drawn = [(number, one) for number, one in enumerate(self.cards) if number % 5 != 3]
        chance = random.Random(7)
        angles = [2 * math.pi * (number % 12) / 12 for number, _ in drawn]
        return {
            **OF_RELEASE,
            "method": "principal components",
            "num_items": 120_000,
            "num_points": len(drawn),
            "trustworthiness": 0.934,
            **{
                name: [one[name] for _, one in drawn]
                for name in ("item_id", "title", "channel_id", "published_at_ms", "num_watches")
            },
            "tag": [one["tags"][0] if one["tags"] else None for _, one in drawn],
            "x": [5 * math.cos(angle) + chance.gauss(0, 1) for angle in angles],
            "y": [5 * math.sin(angle) + chance.gauss(0, 1) for angle in angles],
        }

    def _item(self, asked: Asked) -> Json:
        item_id = unquote(asked.path.rpartition("/")[2])
        return {
            **OF_RELEASE,
            "item": self._card(item_id),
            "known_until_ms": UNTIL_MS,
            "per_day": [],
        }

    def _search(self, asked: Asked) -> Json:
        words = asked.query.get("search", "").lower().split()
        found = [
            one
            for one in self.cards
            if all(word in f"{one['item_id']} {one['title']}".lower() for word in words)
        ]
        return {**OF_RELEASE, "items": found[: int(asked.query["k"])]}

    def _near(self, asked: Asked) -> Json | None:
        ids = [str(one["item_id"]) for one in self.cards]
        if asked.query["item_id"] not in ids:
            return None
        place = ids.index(asked.query["item_id"])
        cloud = self.cards[place % 12 :: 12] if len(self.cards) > 240 else self.cards
        others = [one for one in cloud if one is not self.cards[place]]
        near = [{**one, "cosine": 1 - step / 50} for step, one in enumerate(others)]
        exact = near[: int(asked.query["k"])]
        return {
            **OF_RELEASE,
            "item_id": asked.query["item_id"],
            "exact": exact,
            "index": exact,
            "recall": 1.0,
        }

    def _card(self, item_id: str) -> Json:
        return next(one for one in self.cards if str(one["item_id"]) == item_id)
