"""A trained retrieval network and all that is needed to ask it: user vectors and item vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from upnext.examples.history import History, Indices
from upnext.examples.watches import Queries, QueryEncoder
from upnext.retrieval.attention import attend_to_windows, pack_windows
from upnext.retrieval.model import RetrievalModel
from upnext.retrieval.windows import window_means
from upnext.schema import NUM_RESERVED_ROWS, Floats
from upnext.training.logbook import Epoch

BATCH_SIZE = 4_096
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class TrainedRetrieval:
    """The network of the best epoch, and what each epoch gave."""

    model: RetrievalModel
    query_encoder: QueryEncoder
    epochs: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    repeat_bonus: float = 0.0
    """What an item's score gains where the user has watched it before."""

    def typical_user_vectors(self, history: History, num_vectors: int = 1_000) -> Floats:
        """[B, D] user vectors after the last watches of some users, to tune an index with."""
        last = np.flatnonzero(np.diff(history.watches.starts))
        chosen = last[:: max(1, len(last) // num_vectors)]
        at_ms = history.watches.at_ms[history.watches.starts[chosen + 1] - 1] + 1
        return self.user_vectors(history, self.query_encoder.queries(history, chosen, at_ms))

    def user_vectors(self, history: History, queries: Queries) -> Floats:
        """[B, D] at example age 0, as in serving. Queries of any order."""
        order = np.lexsort((queries.search_hi, queries.watch_hi, queries.user_rows))
        vectors = np.empty((len(queries), self.model.config.vector_size), np.float32)
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), BATCH_SIZE):
                part = order[start : start + BATCH_SIZE]
                age_days = np.zeros(len(part), np.float32)
                vectors[part] = (
                    user_vectors(self.model, self.query_encoder, history, queries[part], age_days)
                    .float()
                    .cpu()
                    .numpy()
                )
        return vectors

    def item_vectors(self) -> Floats:
        """[N, D], float32; zeros in the reserved rows."""
        return self._all_rows(self.model.item_vectors)

    def watch_vectors(self) -> Floats:
        """[N, E]: what each item stands for in a history."""
        return self._all_rows(self.model.watch_vectors)

    def _all_rows(self, vectors_of: Callable[[torch.Tensor], torch.Tensor]) -> Floats:
        self.model.eval()
        num_rows = self.model.item_table.num_rows
        rows = torch.arange(NUM_RESERVED_ROWS, num_rows, device=self.model.device)
        with torch.inference_mode():
            parts = [vectors_of(part).float().cpu() for part in torch.split(rows, ROWS_AT_ONCE)]
        return nn.functional.pad(torch.cat(parts), (0, 0, NUM_RESERVED_ROWS, 0)).numpy()


def user_vectors(
    model: RetrievalModel,
    query_encoder: QueryEncoder,
    history: History,
    queries: Queries,
    age_days: Floats,
    *,
    skipped: Indices | None = None,
    min_watches: int = 0,
) -> torch.Tensor:
    """[B, D] of queries in the order of the log.

    Args:
        age_days: [B] the example age that the network is told.
        skipped: [B] newest watches that are kept from each query.
        min_watches: newest watches that self-attention is sure to see, as far as there are so many;
            the fewer, the more examples share one pass. 0 stands for all, as in serving.
    """
    device, config = model.device, query_encoder.encoder.config
    log, lo, hi = history.watches, queries.watch_lo, queries.watch_hi
    if skipped is not None:
        hi = np.maximum(lo, hi - skipped)
    watched = window_means(model.watch_vectors, log, lo, hi, config.watch_windows, device=device)
    if model.tower.attention is not None:
        packed = pack_windows(
            log,
            queries.user_rows,
            lo,
            hi,
            max_watches=config.num_watches,
            min_watches=min_watches or config.num_watches,
            for_accelerator=device.type != "cpu",
        )
        state = attend_to_windows(model.tower.attention, model.watch_vectors, log, packed)
        watched = torch.cat([state, watched], dim=1)
    searched = window_means(
        model.search_table,
        history.searches,
        queries.search_lo,
        queries.search_hi,
        (config.num_searches,),
        device=device,
    )
    vectors: torch.Tensor = model.tower(
        watched,
        searched,
        torch.from_numpy(queries.context_rows).to(device, torch.int64),
        torch.from_numpy(queries.context_values).to(device),
        torch.from_numpy(age_days).to(device),
    )
    return vectors
