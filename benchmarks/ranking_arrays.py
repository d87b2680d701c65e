"""What upnext's ranking sees of each impression, written out for libraries that want it ready made.

The requests of upnext hold ten impressions each that share one history; here every impression has
its own copy. Features are those of upnext's networks, computed and scaled once, as training does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from benchmarks.rivals.ranking_task import (
    EncodedImpressions,
    Part,
    Table,
    write_impressions,
    write_tables,
)
from benchmarks.upnext_ranking import Encoded

from upnext.examples.encoder import Encoder
from upnext.examples.impressions import ImpressionExamples
from upnext.examples.ranking_inputs import RankingInputs
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.levels import fit_features
from upnext.ranking.model import RankingModel
from upnext.schema import UNKNOWN_ROW, Floats, Rows

REQUESTS_AT_ONCE = 1_000


def write_arrays(task: Path, encoded: Encoded) -> None:
    """All parts, and the sizes of the embedding tables."""
    write_tables(task, tables(encoded.encoder))
    model = RankingModel(encoded.encoder, RankingConfig(), num_sources=0, num_outputs=1)
    fit_features(model, encoded.encoder, encoded.train, np.random.default_rng(0))
    for part in get_args(Part):
        written = written_out(encoded.encoder, encoded.part(part), model)
        write_impressions(task, part, written)


def tables(encoder: Encoder) -> dict[str, Table]:
    """The sizes that upnext gives its own."""
    catalogue, config = encoder.catalogue, RankingNetworkConfig()
    spaces = {"item": catalogue.items, "channel": catalogue.channels, "tag": catalogue.tags}
    return {
        name: Table(ids.num_rows, config.embedding_size(ids.num_rows))
        for name, ids in spaces.items()
    }


def features_of(inputs: RankingInputs, model: RankingModel) -> Floats:
    """[M, F] of the candidates, and behind them those of their requests, as the layers get them."""
    of_queries, of_candidates = model.features.levels(inputs)
    return np.concatenate([of_candidates, of_queries[inputs.request_index]], axis=1)


def batches(encoder: Encoder, examples: ImpressionExamples) -> Iterator[RankingInputs]:
    """All requests in their order, some at once."""
    for start in range(0, examples.num_requests, REQUESTS_AT_ONCE):
        end = min(start + REQUESTS_AT_ONCE, examples.num_requests)
        yield examples.inputs(encoder, np.arange(start, end))[0]


def written_out(
    encoder: Encoder, examples: ImpressionExamples, model: RankingModel
) -> EncodedImpressions:
    """Every impression by itself; x̃, x̃², √x̃ and the scaled log of every feature."""
    parts = [one_by_one(inputs, model) for inputs in batches(encoder, examples)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return EncodedImpressions(**joined, watch_time_s=examples.watch_time_s)


def one_by_one(inputs: RankingInputs, model: RankingModel) -> dict[str, Rows | Floats]:
    """The arrays of `EncodedImpressions`, but for what was watched."""
    is_known = inputs.history_rows > UNKNOWN_ROW
    known_first = np.argsort(~is_known, axis=1, kind="stable")
    each = inputs.request_index

    def past(rows: Rows) -> Rows:
        return np.take_along_axis(known(rows) * is_known, known_first, axis=1)[each]

    return {
        "item_rows": known(inputs.item_rows),
        "channel_rows": known(inputs.channel_rows),
        "tag_rows": known(inputs.tag_rows),
        "history_rows": past(inputs.history_rows),
        "history_channel_rows": past(inputs.history_channel_rows),
        "num_watches": is_known.sum(axis=1).astype(np.int32)[each],
        "features": features_of(inputs, model),
    }


def known(rows: Rows) -> Rows:
    """Padding in place of what is unknown."""
    return np.where(rows > UNKNOWN_ROW, rows, np.int32(0))
