"""What a release can be asked: for pages, for what is similar, and each stage by itself.

Runs from a release alone, without torch. Evaluation measures this very object on many moments at
once; a server asks it for pages. One request's way, top to bottom, is told in `funnel.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from upnext.best import RowSets
from upnext.errors import ReleaseError, RequestError
from upnext.examples.history import History, Indices
from upnext.recommender.batch import Batch
from upnext.recommender.funnel import Funnel
from upnext.recommender.insight.insight import Insight
from upnext.recommender.lists import most_popular, similar_items
from upnext.recommender.opened import OpenedRelease
from upnext.recommender.recall import index_recall
from upnext.schema import (
    NUM_RESERVED_ROWS,
    UNKNOWN_ROW,
    Floats,
    Id,
    LivePast,
    RecommendationRequest,
    Recommendations,
    Rows,
    TimesMs,
)

REST = 2.0
"""Seconds of rest for each second of work, such as trying a release, beside others' answers."""


class Recommender(OpenedRelease):
    """An opened release, and all that it can be asked for."""

    def recommend(
        self, request: RecommendationRequest, live: LivePast | None = None
    ) -> Recommendations:
        """Answers one request.

        An unknown user or an empty history is an ordinary request: the user vector then comes
        from the time of day and the declared features alone.

        Args:
            live: what the user did since, as a live store knows it; see `examples.past`.
        """
        return self.recommend_all([request], [live])[0]

    def recommend_all(
        self,
        requests: Sequence[RecommendationRequest],
        live: Sequence[LivePast | None],
        *,
        rank_before_s: float = math.inf,
    ) -> list[Recommendations]:
        """Answers some requests at once, each as if asked alone, and together in less time.

        A stage that fails is done without, and the answer's `degraded` says so: counts propose
        where retrieval cannot, and retrieval's order stands where ranking cannot.

        Args:
            rank_before_s: on the clock of `time.monotonic`; later, nothing is ranked any more.
        """
        return Funnel(self, requests, live, rank_before_s).answers()

    def popular(
        self, request: RecommendationRequest, live: LivePast | None, cause: str
    ) -> Recommendations:
        """What is watched most where this user is; no network is asked.

        It answers at once when all else fails or would come too late; `cause` says which.
        """
        return most_popular(self, request, live, cause)

    def similar(self, item_id: Id, k: int) -> Recommendations:
        """The k items whose vectors have the greatest cosine with this item's.

        In a large catalogue those among the many that the index proposes for it.

        Raises: RequestError: the release does not know the item.
        """
        return similar_items(self, item_id, k)

    @cached_property
    def insight(self) -> Insight:
        """The release, to be looked into beside the pages that it answers."""
        return Insight(replace(self))  # were it this object, the two would outlive their last use

    def user_vectors(
        self, requests: Sequence[RecommendationRequest], live: Sequence[LivePast | None]
    ) -> Floats:
        """[B, D]: what retrieval makes of some requests."""
        batch = self.batch(requests, live)
        return self.retriever.user_vectors(batch.history, batch.user_rows, batch.at_ms)

    def rank(
        self, request: RecommendationRequest, live: LivePast | None, item_ids: Sequence[Id]
    ) -> Floats:
        """[len(item_ids)] seconds that this user is expected to watch each, were it shown first.

        Raises:
            RequestError: the release does not know an item. ReleaseError: it has no ranking.
        """
        rows = self.encoder.catalogue.items.rows(item_ids)
        for item_id, row in zip(item_ids, rows, strict=True):
            if row == UNKNOWN_ROW:
                expected = f"an item that release {self.version} knows"
                raise RequestError("item_ids", expected=expected, got=repr(item_id))
        batch = self.batch([request], [live])
        of_request = np.zeros(len(rows), np.int64)
        return self.expected_watch_time_s(
            batch.history, batch.user_rows, batch.at_ms, of_request, rows
        )

    def let_go(self) -> None:
        """Gives back most of what it holds of memory, so slowly that nobody else waits for that."""
        self.kept.let_go(rest=REST)

    def index_recall(self, request: RecommendationRequest, live: LivePast | None) -> float | None:
        """Share of the items nearest to this request's user vector that the index finds for it.

        Scans all item vectors. None where the index is exact, or nothing is there to be found.
        """
        return index_recall(self, request, live)

    def candidates_of(
        self,
        history: History,
        user_rows: Indices,
        at_ms: TimesMs,
        excluded: Sequence[Rows] | None,
        again: Sequence[Rows] | None = None,
    ) -> Rows:
        """[B, K] stage 1 for B moments: rows, retrieval's best first, -1 where there are fewer.

        `excluded`, `again`: what each user has watched and may not be, or may be, proposed again.
        """
        user_vectors = self.retriever.user_vectors(history, user_rows, at_ms)
        excluded = RowSets.of(excluded, len(at_ms))
        found, _ = self.retriever.nearest(
            user_vectors, self.num_found(), excluded, again_rows=again
        )
        moments = self.nominators.moments(Batch(history, user_rows, at_ms))
        rows = self.nominators.nominate(moments, found, excluded_rows=excluded).item_rows
        missing = max(0, self.num_found() + self.nominators.num_counted - rows.shape[1])
        return np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)

    def ranked(
        self, history: History, user_rows: Indices, at_ms: TimesMs, candidates: Rows
    ) -> Rows:
        """[B, K] stage 2 for B moments: the candidates [B, K] in order of expected watch time."""
        if self.ranker is None:
            return candidates
        moments, places = np.nonzero(candidates >= NUM_RESERVED_ROWS)
        seconds = np.full(candidates.shape, -np.inf, np.float32)
        seconds[moments, places] = self.expected_watch_time_s(
            history, user_rows, at_ms, moments, candidates[moments, places]
        )
        order = np.argsort(-seconds, axis=1, kind="stable")
        return np.take_along_axis(candidates, order, axis=1)

    def expected_watch_time_s(
        self,
        history: History,
        user_rows: Indices,
        at_ms: TimesMs,
        request_index: Indices,
        item_rows: Rows,
        *,
        position: Floats | None = None,
    ) -> Floats:
        """[M] seconds per impression of item_rows [M], asked for by requests request_index [M].

        Without a position every item is scored as if it stood first on the page.

        Raises: ReleaseError: the release has no ranking.
        """
        if self.ranker is None:
            where = f"release {self.version}"
            raise ReleaseError(where, expected="a release with a ranking", got="retrieval alone")
        user_vectors = self.retriever.user_vectors(history, user_rows, at_ms)
        batch = Batch(history, user_rows, at_ms)
        moments = self.nominators.moments(batch)
        return self.ranker.seconds_of(
            self.inputs(batch, moments, user_vectors, request_index, item_rows, position)
        )
