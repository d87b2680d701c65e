"""One request, top to bottom: history → user vector → candidates → ranked list → page.

Runs from a release alone, without torch. Evaluation measures this very object on many moments at
once; a server asks it for one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upnext.config import config_of_release
from upnext.errors import RequestError
from upnext.examples.encoder import Encoder, ExamplesConfig, now_ms
from upnext.examples.history import History, Indices
from upnext.examples.vocabulary import Vocabulary
from upnext.recommender.config import RecommenderConfig
from upnext.recommender.files import arrays_in
from upnext.recommender.page import Page, choose_page
from upnext.recommender.ranker import Ranker
from upnext.recommender.retriever import Retriever
from upnext.recommender.rules import Allowed, allowed_by
from upnext.registry.release import open_release
from upnext.schema import (
    NUM_RESERVED_ROWS,
    UNKNOWN_ROW,
    Candidates,
    Floats,
    Recommendation,
    RecommendationRequest,
    Recommendations,
    Rows,
    TimesMs,
)


@dataclass(frozen=True)
class Recommender:
    """Both stages of one release, and the histories that it was published with."""

    version: int
    config: RecommenderConfig
    encoder: Encoder
    users: Vocabulary
    history: History
    retriever: Retriever
    ranker: Ranker | None

    @classmethod
    def open(
        cls, registry: Path, version: int, *, verify: bool = True, num_threads: int = 1
    ) -> "Recommender":
        """Opens a release; arrays are mapped into memory, not read.

        Args:
            verify: whether every file's hash is checked.
            num_threads: threads of each network.

        Raises: ReleaseError: there is no such release, it is damaged, or another version of upnext
            made it.
        """
        release = open_release(registry, version, verify=verify)
        kept, where = release.json("config.json"), f"release {version}, config.json"
        examples = config_of_release(kept.get("examples", {}), ExamplesConfig, where=where)
        config = config_of_release(kept.get("recommender", {}), RecommenderConfig, where=where)
        encoder = Encoder.from_arrays(arrays_in(release, "encoder"), examples)
        return cls(
            version=version,
            config=config,
            encoder=encoder,
            users=Vocabulary(**arrays_in(release, "users")),
            history=History.from_arrays(arrays_in(release, "history")),
            retriever=Retriever.open(
                release,
                encoder,
                example_age_days=config.example_age_days,
                num_threads=num_threads,
            ),
            ranker=Ranker.open(release, num_threads=num_threads),
        )

    @property
    def release(self) -> str:
        """The version, as it stands in every answer."""
        return str(self.version)

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        """Answers one request.

        An unknown user or an empty history is an ordinary request: the user vector then comes
        from the time of day and the declared features alone.

        Raises: RequestError: k is below 1, or the page has fewer slots than its options fill.
        """
        _require_slots(request)
        began = time.perf_counter()
        at_ms = now_ms() if request.at_ms is None else request.at_ms
        history, user_row = self._past(request, at_ms)
        users, times = np.array([user_row]), np.array([at_ms], np.int64)
        user_vectors = self.retriever.user_vectors(history, users, times)
        retrieved = time.perf_counter()
        excluded = history.watches.all_before(users, times)[1] if request.exclude_watched else None
        allowed = allowed_by(request.rules, self.encoder.catalogue)
        candidates = self.candidates(user_vectors, excluded, allowed.rows, at_least=request.k)
        searched = time.perf_counter()
        seconds = self._expected_watch_time_s(history, users, times, candidates.item_rows)
        page = self._page(request, at_ms, candidates.item_rows, seconds)
        ranked = time.perf_counter()
        return Recommendations(
            items=[
                self._recommendation(candidates, seconds, page, slot)
                for slot in range(len(page.places))
            ],
            release=self.release,
            num_candidates=len(candidates.item_rows),
            timings_ms={
                "user_vector": (retrieved - began) * 1e3,
                "candidates": (searched - retrieved) * 1e3,
                "ranking": (ranked - searched) * 1e3,
                "total": (ranked - began) * 1e3,
            },
            degraded=self._degraded(request, allowed, len(candidates.item_rows), page),
        )

    def _degraded(
        self, request: RecommendationRequest, allowed: Allowed, num_candidates: int, page: Page
    ) -> list[str]:
        causes = [
            f"user feature {name!r} is not one that this release was trained with"
            for name in request.user_features
            if name not in self.encoder.user_features
        ]
        if self.ranker is None:
            causes.append("this release has no ranking: items are in the order of retrieval")
        causes += [*allowed.causes, *page.causes]
        if allowed.rows is not None and num_candidates < request.k:
            causes.append(f"rules leave {num_candidates:,} items for {request.k:,} slots")
        return causes

    def candidates_of(
        self, history: History, user_rows: Indices, at_ms: TimesMs, excluded: Sequence[Rows] | None
    ) -> Rows:
        """[B, K] stage 1 for B moments: rows of the nearest items, best first, -1 where too few."""
        user_vectors = self.retriever.user_vectors(history, user_rows, at_ms)
        rows, _ = self.retriever.nearest(user_vectors, self.config.num_candidates, excluded)
        return rows

    def ranked(
        self, history: History, user_rows: Indices, at_ms: TimesMs, candidates: Rows
    ) -> Rows:
        """[B, K] stage 2 for B moments: the candidates [B, K] in order of expected watch time."""
        if self.ranker is None:
            return candidates
        moments, places = np.nonzero(candidates >= NUM_RESERVED_ROWS)
        seconds = np.full(candidates.shape, -np.inf, np.float32)
        seconds[moments, places] = self.ranker.expected_watch_time_s(
            self.encoder,
            history,
            user_rows=user_rows,
            at_ms=at_ms,
            request_index=moments,
            item_rows=candidates[moments, places],
        )
        order = np.argsort(-seconds, axis=1, kind="stable")
        return np.take_along_axis(candidates, order, axis=1)

    def candidates(
        self,
        user_vector: Floats,
        excluded_rows: Rows | None,
        allowed_rows: Rows | None = None,
        *,
        at_least: int = 0,
    ) -> Candidates:
        """The items nearest to one user vector [1, D], best first, of the allowed ones."""
        num_items = self.encoder.catalogue.num_rows - NUM_RESERVED_ROWS
        count = min(max(self.config.num_candidates, at_least), num_items)
        excluded = None if excluded_rows is None else [excluded_rows]
        rows, scores = self.retriever.nearest(user_vector, count, excluded, allowed_rows)
        found = rows[0] >= NUM_RESERVED_ROWS
        return Candidates(rows[0][found], scores[0][found])

    def _past(self, request: RecommendationRequest, at_ms: int) -> tuple[History, int]:
        """The history that this request is answered from, and the user's row in it."""
        user_row = UNKNOWN_ROW if request.user_id is None else self.users.row(request.user_id)
        if request.history is None and request.searches is None and not request.user_features:
            return self.history, user_row
        stored = self.history.of_user(user_row)
        told = self.encoder.request_history(request, at_ms)
        return History(
            watches=stored.watches if request.history is None else told.watches,
            searches=stored.searches if request.searches is None else told.searches,
            shown=stored.shown,
            feature_rows=np.where(
                told.feature_rows == UNKNOWN_ROW, stored.feature_rows, told.feature_rows
            ),
        ), 0

    def _expected_watch_time_s(
        self, history: History, users: Indices, at_ms: TimesMs, item_rows: Rows
    ) -> Floats | None:
        if self.ranker is None:
            return None
        return self.ranker.expected_watch_time_s(
            self.encoder,
            history,
            user_rows=users,
            at_ms=at_ms,
            request_index=np.zeros(len(item_rows), np.int64),
            item_rows=item_rows,
        )

    def _page(
        self,
        request: RecommendationRequest,
        at_ms: int,
        item_rows: Rows,
        seconds: Floats | None,
    ) -> Page:
        return choose_page(
            item_rows,
            seconds,
            request.page,
            k=request.k,
            at_ms=at_ms,
            item_vectors=self.retriever.item_vectors,
            channel_rows=self.encoder.catalogue.channel_rows,
            published_at_ms=self.encoder.catalogue.published_at_ms,
        )

    def _recommendation(
        self, candidates: Candidates, seconds: Floats | None, page: Page, slot: int
    ) -> Recommendation:
        place = page.places[slot]
        row = int(candidates.item_rows[place])
        return Recommendation(
            item_id=self.encoder.catalogue.items.id(row),
            title=self.encoder.catalogue.title(row),
            expected_watch_time_s=None if seconds is None else float(seconds[place]),
            retrieval_score=float(candidates.scores[place]),
            retrieval_rank=int(place) + 1,
            propensity=float(page.propensities[slot]),
            explored=slot >= page.num_ranked,
        )


def _require_slots(request: RecommendationRequest) -> None:
    if request.k < 1:
        raise RequestError("k", expected="1 or more", got=str(request.k))
    num_told = request.page.num_fresh + request.page.num_explored
    if num_told > request.k:
        expected = f"num_fresh and num_explored to be at most k = {request.k} together"
        raise RequestError("page", expected=expected, got=str(num_told))
