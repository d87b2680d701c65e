"""One request's way, top to bottom: past → user vector → candidates → ranked list → page.

Requests that wait at the same time go together, since much of a stage's time is not arithmetic.
Each stage may fail by itself, and what follows does without: an answer that is less than it could
be, and says why, is worth more than none.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import compress, pairwise
from typing import TypeVar

import numpy as np

from upnext.best import RowSets
from upnext.examples.history import Indices
from upnext.recommender.candidates import of_retrieval_alone
from upnext.recommender.explain import explain
from upnext.recommender.opened import OpenedRelease
from upnext.recommender.page import Page, choose_page
from upnext.recommender.rules import allowed_by
from upnext.schema import (
    Candidates,
    Floats,
    ItemRules,
    LivePast,
    Reason,
    Recommendation,
    RecommendationRequest,
    Recommendations,
    Rows,
)
from upnext.sources import NOMINATORS, Nominations

logger = logging.getLogger(__name__)

T = TypeVar("T")

NO_RULES = ItemRules()
NO_RANKING = "this release has no ranking: items are in the order of retrieval"
TOO_LATE = "ranking would have come too late: items are in the order of retrieval"


class Funnel:
    """Some requests on their way through both stages of one release."""

    def __init__(
        self,
        release: OpenedRelease,
        requests: Sequence[RecommendationRequest],
        live: Sequence[LivePast | None],
        rank_before_s: float,
    ) -> None:
        self._release, self._requests = release, requests
        self._rank_before_s = rank_before_s
        self._timings_ms: dict[str, float] = {}
        self._failures: list[str] = []
        self._began_s = time.perf_counter()
        self._batch = release.batch(requests, live)
        self._moments = release.nominators.moments(self._batch)
        self._allowed = [
            allowed_by(request.rules, release.encoder.catalogue) for request in requests
        ]
        self._timings_ms["past"] = (time.perf_counter() - self._began_s) * 1e3

    def answers(self) -> list[Recommendations]:
        """One a request, in their order."""
        vectors = self._stage("user_vector", "counts alone propose items", self._user_vectors)
        candidates = self._stage("candidates", "none are left", lambda: self._candidates(vectors))
        if candidates is None:
            candidates = [_none()] * len(self._requests)
        seconds = None
        if self._release.ranker is not None:
            seconds = self._stage(
                "ranking",
                "items are in the order of retrieval",
                lambda: self._seconds(vectors, candidates),
            )
        ends = np.cumsum([len(one.item_rows) for one in candidates])
        return [
            self._answer(
                place,
                vectors,
                one,
                None if seconds is None else seconds[end - len(one.item_rows) : end],
            )
            for place, (one, end) in enumerate(zip(candidates, ends, strict=True))
        ]

    def _stage(self, name: str, otherwise: str, compute: Callable[[], T | None]) -> T | None:
        """What a stage makes; None if it fails, which is logged, and told in every answer."""
        began_s = time.perf_counter()
        made = self._attempt(name, otherwise, compute)
        self._timings_ms[name] = (time.perf_counter() - began_s) * 1e3
        return made

    def _attempt(self, name: str, otherwise: str, compute: Callable[[], T | None]) -> T | None:
        try:
            return compute()
        except Exception as error:  # whatever it is, the other stages can still answer
            logger.exception("release %s: %s failed", self._release.release, name)
            self._failures.append(f"{name} failed ({type(error).__name__}): {otherwise}")
            return None

    def _user_vectors(self) -> Floats:
        batch = self._batch
        return self._release.retriever.user_vectors(batch.history, batch.user_rows, batch.at_ms)

    def _candidates(self, vectors: Floats | None) -> list[Candidates]:
        """Requests for the same number of items and without rules are searched as one."""
        found: dict[int, Candidates] = {}
        excluded, again = self._watched()
        for places in self._searched_together():
            some = None if vectors is None else vectors[places]
            nominations = self._nominations(places, some, excluded, again)
            for line, place in enumerate(places.tolist()):
                vector = None if some is None else some[line]
                nominators = self._release.nominators
                found[place] = nominators.candidates(nominations, line, vector, again[place])
        return [found[place] for place in range(len(self._requests))]

    def _searched_together(self) -> Iterator[Indices]:
        alike: dict[object, list[int]] = {}
        for place, request in enumerate(self._requests):
            num_found = self._release.num_found(request.k)
            alike.setdefault(num_found if request.rules == NO_RULES else object(), []).append(place)
        yield from (np.array(places, np.int64) for places in alike.values())

    def _watched(self) -> tuple[RowSets, list[Rows]]:
        """What each user has watched: what may not be recommended once more, and what may."""
        batch = self._batch
        starts, rows = batch.history.watches.all_before(batch.user_rows, batch.at_ms)
        nothing, excluded, again = rows[:0], list[Rows](), list[Rows]()
        for request, (first, end) in zip(self._requests, pairwise(starts.tolist()), strict=True):
            watched = rows[first:end]
            excluded.append(watched if request.exclude_watched else nothing)
            again.append(nothing if request.exclude_watched else watched)
        return RowSets.of(excluded, len(excluded)), again

    def _nominations(
        self,
        places: Indices,
        vectors: Floats | None,
        excluded: RowSets,
        again: Sequence[Rows],
    ) -> Nominations:
        """Of some requests that are searched together, by retrieval and by counts."""
        release = self._release
        first = int(places[0])
        allowed_rows = self._allowed[first].rows
        excluded_rows = excluded.take(places)
        num_found = release.num_found(self._requests[first].k)
        found: Rows | None = None
        if vectors is not None:
            found = self._attempt(
                "index",
                "counts alone propose items",
                lambda: release.retriever.nearest(
                    vectors,
                    num_found,
                    excluded_rows,
                    allowed_rows,
                    again_rows=[again[place] for place in places],
                )[0],
            )
        both = self._attempt(
            "sources",
            "retrieval alone proposes items",
            lambda: release.nominators.nominate(
                self._moments.take(places),
                found,
                excluded_rows=excluded_rows,
                allowed_rows=allowed_rows,
            ),
        )
        if both is not None:
            return both
        return of_retrieval_alone(np.zeros((len(places), 0), np.int32) if found is None else found)

    def _seconds(self, vectors: Floats | None, candidates: Sequence[Candidates]) -> Floats | None:
        """[M] of all candidates of all requests; None if it is too late to rank them."""
        if time.monotonic() > self._rank_before_s:
            self._failures.append(TOO_LATE)
            return None
        assert self._release.ranker is not None
        if vectors is None:  # as of a user of whom retrieval knows nothing
            size = self._release.retriever.item_vectors.shape[1]
            vectors = np.zeros((len(self._batch), size), np.float32)
        sizes = [len(one.item_rows) for one in candidates]
        raw = self._release.inputs(
            self._batch,
            self._moments,
            vectors,
            np.repeat(np.arange(len(candidates)), sizes),
            np.concatenate([one.item_rows for one in candidates]),
        )
        return self._release.ranker.seconds_of(raw)

    def _answer(
        self, place: int, vectors: Floats | None, candidates: Candidates, seconds: Floats | None
    ) -> Recommendations:
        request = self._requests[place]
        page = self._page(place, candidates, seconds)
        began_s = time.perf_counter()
        reasons: Sequence[Sequence[Reason]] = [()] * len(page.places)
        if request.num_reasons and seconds is not None and vectors is not None:
            reasons = self._reasons(place, vectors, candidates, page)
        reasons_ms = (time.perf_counter() - began_s) * 1e3
        items = self._recommendations(candidates, seconds, page, reasons)
        timings_ms = self._timings_ms | {"reasons": reasons_ms}
        total_ms = (time.perf_counter() - self._began_s) * 1e3
        return Recommendations(
            items=items,
            release=self._release.release,
            num_candidates=len(candidates.item_rows),
            timings_ms=timings_ms
            | {"page": total_ms - sum(timings_ms.values()), "total": total_ms},
            degraded=self._degraded(place, len(candidates.item_rows), page),
        )

    def _page(self, place: int, candidates: Candidates, seconds: Floats | None) -> Page:
        request, catalogue = self._requests[place], self._release.encoder.catalogue
        return choose_page(
            candidates.item_rows,
            seconds,
            request.page,
            k=request.k,
            at_ms=int(self._batch.at_ms[place]),
            item_vectors=self._release.retriever.item_vectors,
            channel_rows=catalogue.channel_rows,
            published_at_ms=catalogue.published_at_ms,
        )

    def _reasons(
        self, place: int, vectors: Floats, candidates: Candidates, page: Page
    ) -> list[list[Reason]]:
        """Why the items of the page are expected to be watched so long."""
        release, alone = self._release, np.array([place])
        assert release.ranker is not None
        raw = release.inputs(
            self._batch.take(alone),
            self._moments.take(alone),
            vectors[alone],
            np.zeros(len(candidates.item_rows), np.int64),
            candidates.item_rows,
        )
        num_reasons = self._requests[place].num_reasons
        return explain(release.ranker, release.encoder, raw, page.places, num_reasons=num_reasons)

    def _degraded(self, place: int, num_candidates: int, page: Page) -> list[str]:
        request, allowed = self._requests[place], self._allowed[place]
        causes = [
            f"user feature {name!r} is not one that this release was trained with"
            for name in request.user_features
            if name not in self._release.encoder.user_features
        ]
        if self._release.ranker is None:
            causes.append(NO_RANKING)
        causes += [*self._failures, *allowed.causes, *page.causes]
        if allowed.rows is not None and num_candidates < request.k:
            causes.append(f"rules leave {num_candidates:,} items for {request.k:,} slots")
        return causes

    def _recommendations(
        self,
        candidates: Candidates,
        seconds: Floats | None,
        page: Page,
        reasons: Sequence[Sequence[Reason]],
    ) -> list[Recommendation]:
        """What stands in each slot; plain numbers are taken from arrays at once, not one by one."""
        places, catalogue = page.places, self._release.encoder.catalogue
        rows = candidates.item_rows[places]
        expected_s: Sequence[float | None] = [None] * len(places)
        if seconds is not None:
            expected_s = seconds[places].tolist()
        lines = zip(
            places.tolist(),
            catalogue.items.ids_in(rows),
            catalogue.titles(rows),
            expected_s,
            candidates.scores[places].tolist(),
            candidates.nominated_by[places].tolist(),
            page.propensities.tolist(),
            reasons,
            strict=True,
        )
        return [
            Recommendation(
                item_id=item_id,
                title=title,
                expected_watch_time_s=expected_watch_time_s,
                retrieval_score=score,
                retrieval_rank=place + 1 if nominated_by[0] else None,
                sources=list(compress(NOMINATORS, nominated_by)),
                reasons=why,
                propensity=propensity,
                explored=slot >= page.num_ranked,
            )
            for slot, (
                place,
                item_id,
                title,
                expected_watch_time_s,
                score,
                nominated_by,
                propensity,
                why,
            ) in enumerate(lines)
        ]


def _none() -> Candidates:
    nobody = np.zeros((0, len(NOMINATORS)), bool)
    return Candidates(np.zeros(0, np.int32), np.zeros(0, np.float32), nobody)
