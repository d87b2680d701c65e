"""Item and user vectors of a large catalogue, as training makes them, to measure indexes on.

    python benchmarks/trained_vectors.py FOLDER --num-items 1120000 --num-epochs 3

Users of a made-up platform have three tastes each, in 32 dimensions of which some matter more, and
watch what is near one of them, popular items more. The retrieval trainer learns from 10 watches an
item. Writes `item_vectors.npy` [N, 64] and `user_vectors.npy` [B, 64].
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.encoder import ExamplesConfig, build_encoder, user_vocabulary
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.train import train_retrieval
from upnext.schema import ITEM_COLUMNS, KIND_DTYPES, MS_PER_DAY, Floats, Items, Logs, Watches

NUM_TASTES, NUM_TOPICS, NUM_DIMENSIONS = 3, 2_000, 32
WATCHES_PER_USER, USERS_PER_ITEM = 40, 0.25
NUM_MET, NUM_MET_TOGETHER = 512, 100_000
"""Items that a taste chooses among, of those that a thousand users meet."""
NUM_DAYS = 60


def main() -> None:
    """Makes the logs, learns from them, writes both arrays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num-items", type=int, default=1_120_000)
    parser.add_argument("--num-epochs", type=int, default=3)
    arguments = parser.parse_args()
    began = time.perf_counter()

    def say(told: object) -> None:
        print(f"{time.perf_counter() - began:7.1f} s  {told}", file=sys.stderr, flush=True)

    logs = taste_logs(arguments.num_items, np.random.default_rng(7))
    say(f"{logs.watches.frame.height:,} watches")
    encoder = build_encoder(logs, ExamplesConfig())
    history = encoder.history(logs, user_vocabulary(logs))
    say(f"{encoder.catalogue.num_rows:,} rows")
    config = RetrievalConfig(num_epochs=arguments.num_epochs, batch_size=8_192, examples_per_user=0)
    trained = train_retrieval(encoder, history, None, config, on_epoch=say)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    np.save(arguments.folder / "item_vectors.npy", trained.item_vectors())
    users = trained.typical_user_vectors(history, 10_000)
    np.save(arguments.folder / "user_vectors.npy", users)
    say("done")


def taste_logs(num_items: int, rng: np.random.Generator) -> Logs:
    """Watches of `num_items` / 4 users, 40 each."""
    scale = (1 / np.sqrt(1 + np.arange(NUM_DIMENSIONS) / 6)).astype(np.float32)
    topics = scale * rng.standard_normal((NUM_TOPICS, NUM_DIMENSIONS), np.float32)
    own = scale * rng.standard_normal((num_items, NUM_DIMENSIONS), np.float32)
    items = 0.75 * topics[rng.integers(0, NUM_TOPICS, num_items)] + 0.65 * own
    popularity = np.cumsum(rng.lognormal(0, 1.2, num_items))
    num_users = int(USERS_PER_ITEM * num_items)
    watched = np.concatenate(
        [
            _watched(min(1_000, num_users - first), items, topics, scale, popularity, rng)
            for first in range(0, num_users, 1_000)
        ]
    )
    started = np.sort(rng.integers(0, NUM_DAYS * MS_PER_DAY, watched.shape), axis=1)
    watches = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(num_users), WATCHES_PER_USER),
            "item_id": watched.ravel(),
            "started_at_ms": started.ravel(),
            "watch_time_s": np.full(watched.size, 60.0, np.float32),
        }
    )
    unknown = {
        name: pl.lit(None, KIND_DTYPES[column.kind][0])
        for name, column in ITEM_COLUMNS.items()
        if name != "item_id"
    }
    described = pl.DataFrame({"item_id": np.arange(num_items)}).with_columns(**unknown)
    return Logs(watches=Watches(watches), items=Items(described))


def _watched(
    num_users: int,
    items: Floats,
    topics: Floats,
    scale: Floats,
    popularity: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """[B, 40]: of items met by their popularity, each taste takes some, the nearer the rather."""
    num_each = -(-WATCHES_PER_USER // NUM_TASTES)
    liked = topics[rng.integers(0, NUM_TOPICS, (num_users, NUM_TASTES))]
    tastes = liked + 0.3 * scale * rng.standard_normal(liked.shape, np.float32)
    drawn = np.searchsorted(popularity, popularity[-1] * rng.random(NUM_MET_TOGETHER))
    shared = np.minimum(drawn, len(items) - 1)
    met = rng.integers(0, NUM_MET_TOGETHER, (num_users, NUM_TASTES, NUM_MET))
    keys = 0.6 * np.einsum("btmd,btd->btm", items[shared][met], tastes)
    keys -= np.log(rng.standard_exponential(keys.shape, np.float32) + 1e-30)
    met = shared[met]
    best = np.argpartition(keys, -num_each, axis=2)[:, :, -num_each:]
    taken = np.take_along_axis(met, best, axis=2).reshape(num_users, -1)
    order = rng.permuted(np.arange(taken.shape[1])[None].repeat(num_users, 0), axis=1)
    return np.take_along_axis(taken, order, axis=1)[:, :WATCHES_PER_USER]


if __name__ == "__main__":
    main()
