"""What a server with a live store would tell of a few users and items, and it takes watches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.console.fake_server import Answer, Asked

DAY_MS = 86_400_000
KNOWN_UNTIL_MS = 1_770_163_331_000
TITLES = ("Slow ramen for beginners", "Welding at night", "Chess & <b>cheese</b>", "Goats, live")
Json = dict[str, Any]


def item_card(number: int) -> Json:
    """An `ItemCard`; every fourth title holds markup, and every fifth item has none."""
    return {
        "item_id": f"v{number:05}",
        "title": None if number % 5 == 4 else f"{TITLES[number % 4]}, part {number}",
        "channel_id": f"c{number % 7}",
        "tags": ["food", "slow & long"],
        "duration_s": 300.0 + number,
        "published_at_ms": KNOWN_UNTIL_MS - number * DAY_MS,
        "num_watches": 1_000 - number,
    }


@dataclass
class FakePlatform:
    """`items`: what there is, the best first. `users`: who watched which of them, oldest first."""

    items: Sequence[Json] = field(default_factory=lambda: [item_card(n) for n in range(60)])
    users: dict[str, list[str]] = field(
        default_factory=lambda: {f"u{n:05}": [f"v{n + j:05}" for j in range(5)] for n in range(12)}
    )
    events: dict[str, Json] = field(default_factory=dict)
    """By the id of the event."""
    events_token: str | None = None

    def answers(self) -> dict[str, Answer]:
        """For a `FakeServer`."""
        return {
            "GET /insight/v1/users": self._users,
            "GET /insight/v1/past": self._past,
            "GET /insight/v1/items": self._search,
            "GET /insight/v1/neighbours": self._neighbours,
            "GET /insight/v1/probability": self._probability,
            "POST /v1/recommendations": self._recommend,
            "POST /v1/events": self._take,
            **{f"GET /insight/v1/items/{one['item_id']}": self._item for one in self.items},
        }

    def _users(self, asked: Asked) -> Json:
        users = [
            {"user_id": user_id, "num_watches": len(items), "last_watch_ms": KNOWN_UNTIL_MS}
            for user_id, items in self.users.items()
        ]
        return {"release": "2", "label": "stable", "users": users}

    def _past(self, asked: Asked) -> Json:
        user_id = asked.query["user_id"]
        card = {one["item_id"]: one for one in self.items}
        stored = [
            {
                **card[item_id],
                "started_at_ms": KNOWN_UNTIL_MS - (9 - place) * 3_600_000,
                "watch_time_s": 60.0 + 40 * place,
                "watch_share": (60.0 + 40 * place) / card[item_id]["duration_s"],
                "is_live": False,
            }
            for place, item_id in enumerate(self.users.get(user_id, []))
        ]
        live = [
            {
                **card[one["item_id"]],
                "started_at_ms": one["started_at_ms"],
                "watch_time_s": one["watch_time_s"],
                "watch_share": None,
                "is_live": True,
            }
            for one in self._watches_of(user_id)
        ]
        return {
            "release": "2",
            "label": "stable",
            "user_id": user_id,
            "is_known": user_id in self.users,
            "num_watches": len(stored) + len(live),
            "num_shown": 7 * len(stored),
            "watches": [*stored, *live][::-1],
            "searches": [
                {"query": "slow ramen", "searched_at_ms": KNOWN_UNTIL_MS - 7e6, "is_live": False}
            ],
        }

    def _search(self, asked: Asked) -> Json:
        text = asked.query.get("search", "").lower()
        found = [
            one
            for one in self.items
            if text in one["item_id"] or text in (one["title"] or "").lower()
        ]
        return {"release": "2", "label": "stable", "items": found[: int(asked.query["k"])]}

    def _item(self, asked: Asked) -> Json:
        (item,) = (one for one in self.items if asked.path.endswith(f"/{one['item_id']}"))
        return {
            "release": "2",
            "label": "stable",
            "item": item,
            "known_until_ms": KNOWN_UNTIL_MS,
            "per_day": [
                {
                    "day_ms": KNOWN_UNTIL_MS // DAY_MS * DAY_MS - back * DAY_MS,
                    "num_impressions": 100 + 30 * (back % 6),
                    "num_watches": 20 + 5 * (back % 6),
                    "watch_time_s": 2_000.0,
                }
                for back in range(20, -1, -1)
            ],
        }

    def _neighbours(self, asked: Asked) -> Json:
        near = [{**one, "cosine": 0.99 - 0.01 * n} for n, one in enumerate(self.items[1:21])]
        return {
            "release": "2",
            "label": "stable",
            "item_id": asked.query["item_id"],
            "exact": near,
            "index": [*near[:17], *near[18:]],
            "recall": 0.95,
        }

    def _probability(self, asked: Asked) -> Json:
        age_days = float(asked.query["example_age_days"])
        days = list(range(-2, 26))
        trained = [0.0 if d < 0 else 0.02 * 0.85**d for d in days]
        return {
            "release": "2",
            "label": "stable",
            "item_id": asked.query["item_id"],
            "published_at_ms": KNOWN_UNTIL_MS - 25 * DAY_MS,
            "trained_until_ms": KNOWN_UNTIL_MS,
            "num_users": 200,
            "num_items_summed": len(self.items),
            "example_age_days": age_days,
            "days": days,
            "as_trained": trained,
            "at_age": [0.004 + 0.0004 * age_days] * len(days),
            "watched_share": [p * 1.1 for p in trained],
            "num_watches": [round(5_000 * p) for p in trained],
        }

    def _recommend(self, asked: Asked) -> Any:
        body = asked.body
        label = body.get("label")
        if label not in (None, "stable", "canary"):
            detail = {"where": "label", "expected": "a loaded release", "got": repr(label)}
            return 404, {"error": {**detail, "hint": ""}}
        user_id, at_ms = body.get("user_id"), body.get("at_ms", 10**15)
        live = [o["item_id"] for o in self._watches_of(user_id) if o["started_at_ms"] < at_ms]
        told = [one["item_id"] for one in body.get("history", ())]
        seen = {*(told or [*self.users.get(user_id, []), *live])}
        left = [one for one in self.items if one["item_id"] not in seen]
        if label == "canary" or live:
            left = [left[2], left[0], left[5], *left[1:2], *left[6:]]
        return {
            "items": [self._slot(p, one, body) for p, one in enumerate(left[: body["k"]], 1)],
            "release": "1" if label == "canary" else "2",
            "num_candidates": 300,
            "timings_ms": {
                "past": 0.1,
                "user_vector": 0.4,
                "candidates": 0.9,
                "ranking": 3.2,
                "total": 4.9,
                "served": 5.3,
            },
            "degraded": [],
            "label": label or "stable",
            "request_id": "4be0a6c4f2",
        }

    def _slot(self, place: int, item: Json, body: Json) -> Json:
        reasons = [
            {"about": "watching", "item_id": "v00003", "watch_time_s": 21.4},
            {"about": "how new it is", "item_id": None, "watch_time_s": 9.6},
            {"about": "how long it is", "item_id": None, "watch_time_s": -3.8},
        ]
        is_explored = place > body["k"] - body.get("page", {}).get("num_explored", 0)
        return {
            "item_id": item["item_id"],
            "title": item["title"],
            "expected_watch_time_s": 130.0 - 7.3 * place,
            "retrieval_score": 5.31 / place,
            "retrieval_rank": None if place == 3 else place * 3 % 17 + 1,
            "sources": ["fresh"] if place == 3 else ["retrieval", "together"],
            "reasons": reasons[: body.get("num_reasons", 0)],
            "propensity": 0.0093 if is_explored else 1.0,
            "explored": is_explored,
        }

    def _take(self, asked: Asked) -> Any:
        if self.events_token is not None and asked.token != self.events_token:
            detail = {"where": "Authorization", "expected": "Bearer and a token", "got": "no token"}
            return 401, {"error": {**detail, "hint": ""}}
        new = {one["event_id"]: one for one in asked.body["events"]}
        num_new = len(new.keys() - self.events.keys())
        self.events = {**new, **self.events}
        return {"num_accepted": num_new, "num_duplicates": len(asked.body["events"]) - num_new}

    def _watches_of(self, user_id: str | None) -> list[Json]:
        watches = [one for one in self.events.values() if one["user_id"] == user_id]
        return sorted(watches, key=lambda one: one["started_at_ms"])
