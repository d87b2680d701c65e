"""A release that is open for requests: its encoder, its users' past, and what each stage needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Self

import numpy as np

from upnext.config import config_of_release
from upnext.errors import RequestError
from upnext.examples.encoder import Encoder, ExamplesConfig
from upnext.examples.history import EventLog, History, Indices
from upnext.examples.ranking_inputs import RankingInputs
from upnext.examples.vocabulary import Vocabulary
from upnext.recommender.batch import Batch, batch_of
from upnext.recommender.candidates import Nominators
from upnext.recommender.config import RecommenderConfig
from upnext.recommender.files import arrays_in
from upnext.recommender.fits import check_arrays_fit
from upnext.recommender.ranker import Ranker
from upnext.recommender.retriever import Retriever
from upnext.registry.release import Release, open_release
from upnext.schema import (
    NUM_RESERVED_ROWS,
    UNKNOWN_ROW,
    Floats,
    Id,
    LivePast,
    RecommendationRequest,
    Rows,
)
from upnext.sources import Moments, SourcesConfig


@dataclass(frozen=True)
class OpenedRelease:
    """Both stages of one release, and the histories that it was published with.

    `kept`: the release as it lies on disk, for what no request needs.
    `num_tried`: requests that it has answered before it was given out; see `warm.py`.
    """

    version: int
    kept: Release
    known_until_ms: int
    config: RecommenderConfig
    encoder: Encoder
    users: Vocabulary
    history: History
    retriever: Retriever
    nominators: Nominators
    ranker: Ranker | None
    num_tried: int = 0

    @classmethod
    def open(
        cls, registry: Path, version: int, *, verify: bool = True, num_threads: int = 1
    ) -> Self:
        """Opens a release; arrays are mapped into memory, not read.

        Args:
            verify: whether every file's hash is checked.
            num_threads: threads of each network.

        Raises: ReleaseError: there is no such release, it is damaged, its arrays do not fit
            together, or another version of upnext made it.
        """
        release = open_release(registry, version, verify=verify)
        check_arrays_fit(release)
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
            kept=release,
            known_until_ms=time_told_ms(release, "history_until"),
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

    def item_row(self, item_id: Id) -> int:
        """The row of an item. Raises RequestError: the release does not know it."""
        row = self.encoder.catalogue.items.row(item_id)
        if row == UNKNOWN_ROW:
            expected = f"an item that release {self.version} knows"
            raise RequestError("item_id", expected=expected, got=repr(item_id))
        return row

    def batch(
        self, requests: Sequence[RecommendationRequest], live: Sequence[LivePast | None]
    ) -> Batch:
        """The moments of some requests."""
        return batch_of(self.encoder, self.users, self.history, requests, live)

    def inputs(
        self,
        batch: Batch,
        moments: Moments,
        user_vectors: Floats,
        request_index: Indices,
        item_rows: Rows,
        position: Floats | None = None,
    ) -> RankingInputs:
        """What ranking is told of candidates item_rows [M]; encoded as training did.

        Without a position every item is told to stand first on the page, so that the order that a
        page once had does not leak into the new one. Of what users were shown a ranker is told
        nothing that learned from logs without impressions: its weights for that are random still.
        """
        history, scores = batch.history, None
        if len(history.shown.rows) and not self.kept.metadata.get("has_impressions", True):
            history = replace(history, shown=EventLog.empty(history.shown.num_users))
        if self.ranker is not None and self.ranker.num_sources:
            scores = self.nominators.scorer.scores(user_vectors, moments, item_rows, request_index)
        return RankingInputs(
            self.encoder,
            history,
            user_rows=batch.user_rows,
            at_ms=batch.at_ms,
            request_index=request_index,
            item_rows=item_rows,
            position=np.zeros(len(item_rows), np.float32) if position is None else position,
            source_scores=scores,
        )

    def num_found(self, at_least: int = 0) -> int:
        """How many items retrieval finds for a page of at least so many slots."""
        num_items = self.encoder.catalogue.num_rows - NUM_RESERVED_ROWS
        return min(max(self.config.num_candidates, at_least), num_items)


def time_told_ms(release: Release, name: str) -> int:
    """A time of the release's metadata; 0 where it does not tell.

    `history_until`: the end of the logs that the users' past is from. `train_until`: the last watch
    that was learned from.
    """
    told = release.metadata.get(name)
    return round(datetime.fromisoformat(told).timestamp() * 1000) if isinstance(told, str) else 0
