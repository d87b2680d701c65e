"""Stage 2 of a release: candidates in, expected watch times out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnxruntime

from upnext.examples.encoder import Encoder
from upnext.examples.history import History, Indices
from upnext.examples.impressions import EMBEDDED_ROWS, encode_ranking_inputs
from upnext.recommender.files import arrays_in, network
from upnext.registry.release import Release
from upnext.schema import Floats, Rows, TimesMs


@dataclass(frozen=True)
class Ranker:
    """Stage 2 of a release: embedding tables by name, and the network that they feed."""

    tables: Mapping[str, Floats]
    network: onnxruntime.InferenceSession

    @classmethod
    def open(cls, release: Release, *, num_threads: int) -> Self | None:
        """None where the release has no stage 2."""
        if "ranking/network.onnx" not in release.files:
            return None
        return cls(
            tables=arrays_in(release, "ranking"),
            network=network(release, "ranking/network.onnx", num_threads),
        )

    def expected_watch_time_s(
        self,
        encoder: Encoder,
        history: History,
        *,
        user_rows: Indices,
        at_ms: TimesMs,
        request_index: Indices,
        item_rows: Rows,
        position: Floats | None = None,
    ) -> Floats:
        """[M] seconds per impression; user_rows, at_ms [R] ask, item_rows [M] are asked for.

        Without a position every item is scored as if it stood first on the page, so that the
        order that a page once had does not leak into the new one.
        """
        if not len(item_rows):  # which the network's graph cannot broadcast over
            return np.zeros(0, np.float32)
        raw = encode_ranking_inputs(
            encoder,
            history,
            user_rows=user_rows,
            at_ms=at_ms,
            request_index=request_index,
            item_rows=item_rows,
            position=np.zeros(len(item_rows), np.float32) if position is None else position,
        ).arrays()
        vectors = {
            name: self.tables[table][raw[rows_name]]
            for name, (table, rows_name) in EMBEDDED_ROWS.items()
        }
        names = {node.name for node in self.network.get_inputs()}
        feed = {name: array for name, array in {**raw, **vectors}.items() if name in names}
        logits: Floats = self.network.run(None, feed)[0]
        return np.exp(logits)
