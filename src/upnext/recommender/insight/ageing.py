"""How probable one item is on each day since its publication: figure 4 of the paper, of one item.

    P(i | u, t) = e^{u(t) · v_i} / Σ_j e^{u(t) · v_j},  the mean over a sample of users

Once each moment t at the example age that a watch of that moment had in training, and once at one
example age throughout. Where the paper's trick worked, the former follows what was really watched.

Source: Covington, Adams, Sargin 2016, section 3.3 and figure 4.
"""

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from upnext.insight import ItemAgeing
from upnext.recommender.insight.denominator import Denominator
from upnext.recommender.insight.item_days import HOURS_PER_DAY, watches_by_day, watches_of_row
from upnext.recommender.insight.keeping import Kept
from upnext.recommender.opened import OpenedRelease, time_told_ms
from upnext.schema import MS_PER_DAY, MS_PER_HOUR, NUM_RESERVED_ROWS, Floats, TimesMs

FIRST_DAY, MAX_POINTS = -2, 60
MAX_CELLS = 60_000_000
"""Scores of one curve, users × days × items summed: less than half a second of one core."""
CELLS_A_STEP, MOMENTS_A_STEP = 4_000_000, 512
"""Between two steps others have their turn."""
MAX_CURVES = 256
"""Curves that are remembered, the latest."""

Days = NDArray[np.int64]
Curve = list[float]


class Ageing:
    """Draws curves of a release's items, and remembers them."""

    def __init__(self, release: OpenedRelease) -> None:
        self._release = release
        self._denominator = Denominator.of(np.asarray(release.retriever.item_vectors))
        self._of_all = release.history.item_counts.watches_by_hour()
        self._curves: Kept[tuple[int, int, float | None], Curve] = Kept(MAX_CURVES)

    def of_item(
        self, row: int, example_age_days: float, num_users: int
    ) -> Iterator[ItemAgeing | None]:
        """In steps: None while there is more to do, then the answer.

        Args:
            num_users: at most; there are fewer where items are many.
        """
        catalogue = self._release.encoder.catalogue
        published_ms = int(catalogue.published_at_ms[row])
        days = self._days(published_ms)
        at_ms = published_ms + days * MS_PER_DAY
        users = self._users(num_users, len(days))
        as_trained = yield from self._curve((row, num_users, None), users, at_ms, days)
        at_age = yield from self._curve((row, num_users, example_age_days), users, at_ms, days)
        from_hours = published_ms // MS_PER_HOUR + HOURS_PER_DAY * days
        own = watches_of_row(self._release.history.item_counts, row)
        num_watches = watches_by_day(*own, from_hours)
        of_all = watches_by_day(*self._of_all, from_hours)
        yield ItemAgeing(
            item_id=catalogue.items.id(row),
            published_at_ms=published_ms,
            trained_until_ms=self._trained_until_ms,
            example_age_days=example_age_days,
            num_users=len(users),
            num_items_summed=len(self._denominator),
            days=days.tolist(),
            as_trained=as_trained,
            at_age=at_age,
            watched_share=(num_watches / np.maximum(of_all, 1)).tolist(),
            num_watches=num_watches.tolist(),
        )

    @property
    def _trained_until_ms(self) -> int:
        release = self._release
        return time_told_ms(release.kept, "train_until") or release.known_until_ms

    def _days(self, published_ms: int) -> Days:
        """Days since publication within the logs, evenly spaced, from shortly before it."""
        since_publication_ms = self._of_all[0] * MS_PER_HOUR - published_ms
        first = max(FIRST_DAY, -(-since_publication_ms // MS_PER_DAY))
        last = (self._release.known_until_ms - published_ms) // MS_PER_DAY
        step = max(1, -(-(last + 1 - first) // MAX_POINTS))
        return np.arange(first, last + 1, step, dtype=np.int64)

    def _users(self, num_users: int, num_days: int) -> NDArray[np.int64]:
        """Rows of users who have watched something, always the same ones."""
        affordable = MAX_CELLS // max(1, num_days * len(self._denominator))
        watching = np.flatnonzero(np.diff(self._release.history.watches.starts))
        watching = watching[watching >= NUM_RESERVED_ROWS]
        num_drawn = min(len(watching), num_users, max(1, affordable))
        return np.sort(np.random.default_rng(0).choice(watching, num_drawn, replace=False))

    def _curve(
        self,
        asked: tuple[int, int, float | None],
        users: NDArray[np.int64],
        at_ms: TimesMs,
        days: Days,
    ) -> Generator[None, None, Curve]:
        """The mean probability at each moment; `asked`: row, users, and age, None as trained."""
        row, _, age_days = asked
        curve = self._curves.get(asked)
        if curve is None:
            ages = self._ages_as_trained(at_ms, days)
            if age_days is not None:
                ages = np.full(len(days), age_days, np.float32)
            probabilities = yield from self._probabilities(
                row,
                np.tile(users, len(at_ms)),
                np.repeat(at_ms, len(users)),
                np.repeat(ages, len(users)),
            )
            curve = probabilities.reshape(len(at_ms), len(users)).mean(axis=1).tolist()
            self._curves.keep(asked, curve)
        return curve

    def _ages_as_trained(self, at_ms: TimesMs, days: Days) -> Floats:
        """[P] what training told as the example age of a watch of the item at each moment.

        That depends on the reading of the paper that was learned with; it is 0 or more.
        """
        network = self._release.kept.json("config.json").get("retrieval", {}).get("network", {})
        by_publication = network.get("example_age") == "publication"
        ages = days if by_publication else (self._trained_until_ms - at_ms) / MS_PER_DAY
        return np.maximum(ages, 0).astype(np.float32)

    def _probabilities(
        self, row: int, user_rows: NDArray[np.int64], at_ms: TimesMs, age_days: Floats
    ) -> Generator[None, None, NDArray[np.float64]]:
        """[B] of one item at moments [B] of users [B]."""
        retriever, history = self._release.retriever, self._release.history
        own = np.asarray(retriever.item_vectors[row])
        probabilities = np.zeros(len(user_rows))
        step = max(1, min(MOMENTS_A_STEP, CELLS_A_STEP // len(self._denominator)))
        for start in range(0, len(user_rows), step):
            part = slice(start, start + step)
            vectors = retriever.user_vectors_at_age(
                history, user_rows[part], at_ms[part], age_days[part]
            )
            probabilities[part] = np.exp(vectors @ own - self._denominator.log_sums(vectors))
            yield
        return probabilities
