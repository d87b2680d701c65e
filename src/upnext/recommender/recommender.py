"""One request, top to bottom: history → user vector → candidates → ranked list → page.

Runs from a release alone, without torch. Evaluation measures this very object on many moments at
once; a server asks it for one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from upnext.config import config_of_release
from upnext.errors import ReleaseError, RequestError
from upnext.examples.encoder import Encoder, ExamplesConfig, now_ms
from upnext.examples.history import History, Indices
from upnext.examples.impressions import RankingInputs
from upnext.examples.vocabulary import Vocabulary
from upnext.recommender.candidates import Nominators
from upnext.recommender.config import RecommenderConfig
from upnext.recommender.explain import explain
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
    Reason,
    Recommendation,
    RecommendationRequest,
    Recommendations,
    Rows,
    TimesMs,
)
from upnext.sources import NOMINATORS, SourcesConfig


@dataclass(frozen=True)
class Recommender:
    """Both stages of one release, and the histories that it was published with."""

    version: int
    config: RecommenderConfig
    encoder: Encoder
    users: Vocabulary
    history: History
    retriever: Retriever
    nominators: Nominators
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
        retriever = Retriever.open(
            release, encoder, example_age_days=config.example_age_days, num_threads=num_threads
        )
        sources = config_of_release(kept.get("sources", {}), SourcesConfig, where=where)
        return cls(
            version=version,
            config=config,
            encoder=encoder,
            users=Vocabulary(**arrays_in(release, "users")),
            history=History.from_arrays(arrays_in(release, "history")),
            retriever=retriever,
            nominators=Nominators.open(release, retriever, sources),
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
        candidates = self.nominators.candidates(
            self.nominators.nominate(
                history,
                users,
                times,
                user_vectors,
                num_found=self._num_found(request.k),
                excluded_rows=None if excluded is None else [excluded],
                allowed_rows=allowed.rows,
            ),
            user_vectors,
        )
        searched = time.perf_counter()
        one_request = np.zeros(len(candidates.item_rows), np.int64)
        raw = self._inputs(history, users, times, user_vectors, one_request, candidates.item_rows)
        seconds = None if self.ranker is None else self.ranker.seconds_of(raw)
        page = self._page(request, at_ms, candidates.item_rows, seconds)
        ranked = time.perf_counter()
        reasons = self._reasons(request, raw, page)
        explained = time.perf_counter()
        return Recommendations(
            items=[
                self._recommendation(candidates, seconds, page, slot, reasons[slot])
                for slot in range(len(page.places))
            ],
            release=self.release,
            num_candidates=len(candidates.item_rows),
            timings_ms={
                "user_vector": (retrieved - began) * 1e3,
                "candidates": (searched - retrieved) * 1e3,
                "ranking": (ranked - searched) * 1e3,
                "reasons": (explained - ranked) * 1e3,
                "total": (explained - began) * 1e3,
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
        """[B, K] stage 1 for B moments: rows, retrieval's best first, -1 where there are fewer."""
        rows = self.nominators.nominate(
            history,
            user_rows,
            at_ms,
            self.retriever.user_vectors(history, user_rows, at_ms),
            num_found=self._num_found(),
            excluded_rows=excluded,
        ).item_rows
        missing = max(0, self._num_found() + self.nominators.num_counted - rows.shape[1])
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
        return self.ranker.seconds_of(
            self._inputs(
                history, user_rows, at_ms, user_vectors, request_index, item_rows, position
            )
        )

    def _inputs(
        self,
        history: History,
        user_rows: Indices,
        at_ms: TimesMs,
        user_vectors: Floats,
        request_index: Indices,
        item_rows: Rows,
        position: Floats | None = None,
    ) -> RankingInputs:
        """What ranking is told of candidates item_rows [M]; encoded as training did.

        Without a position every item is told to stand first on the page, so that the order that a
        page once had does not leak into the new one.
        """
        scores = None
        if self.ranker is not None and self.ranker.num_sources:
            scores = self.nominators.scores(
                history, user_rows, at_ms, user_vectors, item_rows, request_index
            )
        return RankingInputs(
            self.encoder,
            history,
            user_rows=user_rows,
            at_ms=at_ms,
            request_index=request_index,
            item_rows=item_rows,
            position=np.zeros(len(item_rows), np.float32) if position is None else position,
            source_scores=scores,
        )

    def _num_found(self, at_least: int = 0) -> int:
        num_items = self.encoder.catalogue.num_rows - NUM_RESERVED_ROWS
        return min(max(self.config.num_candidates, at_least), num_items)

    def _past(self, request: RecommendationRequest, at_ms: int) -> tuple[History, int]:
        """The history that this request is answered from, and the user's row in it."""
        user_row = UNKNOWN_ROW if request.user_id is None else self.users.row(request.user_id)
        if request.history is None and request.searches is None and not request.user_features:
            return self.history, user_row
        stored = self.history.of_user(user_row)
        told = self.encoder.request_history(request, at_ms)
        return replace(
            stored,
            watches=stored.watches if request.history is None else told.watches,
            searches=stored.searches if request.searches is None else told.searches,
            feature_rows=np.where(
                told.feature_rows == UNKNOWN_ROW, stored.feature_rows, told.feature_rows
            ),
        ), 0

    def _reasons(
        self, request: RecommendationRequest, raw: RankingInputs, page: Page
    ) -> list[list[Reason]]:
        """Why the items of the page are expected to be watched so long, if that was asked."""
        if self.ranker is None or not request.num_reasons or not len(page.places):
            return [[]] * len(page.places)
        return explain(self.ranker, self.encoder, raw, page.places, num_reasons=request.num_reasons)

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
        self,
        candidates: Candidates,
        seconds: Floats | None,
        page: Page,
        slot: int,
        reasons: Sequence[Reason],
    ) -> Recommendation:
        place = page.places[slot]
        row, nominated_by = int(candidates.item_rows[place]), candidates.nominated_by[place]
        return Recommendation(
            item_id=self.encoder.catalogue.items.id(row),
            title=self.encoder.catalogue.title(row),
            expected_watch_time_s=None if seconds is None else float(seconds[place]),
            retrieval_score=float(candidates.scores[place]),
            retrieval_rank=int(place) + 1 if nominated_by[0] else None,
            sources=[name for name, is_so in zip(NOMINATORS, nominated_by, strict=True) if is_so],
            reasons=reasons,
            propensity=float(page.propensities[slot]),
            explored=slot >= page.num_ranked,
        )


def _require_slots(request: RecommendationRequest) -> None:
    if request.k < 1:
        raise RequestError("k", expected="1 or more", got=str(request.k))
    if request.num_reasons < 0:
        raise RequestError("num_reasons", expected="0 or more", got=str(request.num_reasons))
    num_told = request.page.num_fresh + request.page.num_explored
    if num_told > request.k:
        expected = f"num_fresh and num_explored to be at most k = {request.k} together"
        raise RequestError("page", expected=expected, got=str(num_told))
