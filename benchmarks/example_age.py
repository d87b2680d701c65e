"""Figure 4 of Covington, Adams, Sargin 2016 from real news: example age on and off.

    python benchmarks/example_age.py globo-g1 --plot example_age.png

Learns twice from the days before the last one, once told each example's age and once not. Prints
Recall@50 on the last day, paired by user, and draws the class probability of popular articles
against the time since each was published: predicted by both, and counted. The days before are drawn
from the age that the network is told, the contexts being the same all along.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from upnext import RunConfig, load_public, read_config
from upnext.evaluation.intervals import bootstrap_interval, sum_by_user
from upnext.evaluation.metrics import recall_at_k
from upnext.evaluation.ranks import SeenRows, rank_targets
from upnext.examples.encoder import Encoder, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.watches import WatchTargets, build_watch_examples, watch_targets
from upnext.logs.split import split_by_time
from upnext.retrieval.model import ExampleAge
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval, user_vectors
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Floats

HERE = Path(__file__).parent
DATA = Path(os.environ.get("UPNEXT_DATA", HERE.parent.parent / "shared" / "data"))
NUM_CONTEXTS, NUM_ARTICLES, HOURS_SHOWN, HOURS_A_BIN = 1_000, 200, 48, 2
INK, OFF, ON = "#1f2933", "#9aa5b1", "#2563a8"


@dataclass(frozen=True)
class Platform:
    """Some days to learn from and the day after."""

    encoder: Encoder
    history: History
    validation: WatchTargets
    test: WatchTargets


def main() -> None:
    """Prints recalls and writes the plot; progress goes to stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", help="folder of the Globo logs, inside UPNEXT_DATA")
    parser.add_argument("--plot", type=Path, default=Path("example_age.png"))
    parser.add_argument("--train-days", type=float, default=4.0)
    parser.add_argument("--num-epochs", type=int, default=8)
    arguments = parser.parse_args()
    config = read_config(HERE / "globo.toml", RunConfig)
    platform = read_platform(DATA / arguments.folder, config, arguments.train_days)
    recalls: dict[str, Floats] = {}
    curves: dict[str, Floats] = {}
    readings: Sequence[ExampleAge] = ("log_end", "publication", "none")
    for reading in readings:
        network = replace(config.retrieval.network, example_age=reading)
        trained = train_retrieval(
            platform.encoder,
            platform.history,
            platform.validation,
            replace(config.retrieval, network=network, num_epochs=arguments.num_epochs),
            on_epoch=lambda epoch: print(epoch.to_text("retrieval"), file=sys.stderr),
        )
        recalls[reading] = recall_by_target(trained, platform.test)
        if reading != "publication":
            curves[reading] = predicted_shares(trained, platform)
    users = platform.test.user_rows
    for name, recall in recalls.items():
        gain = recall - recalls["none"]
        print(f"{name:12} Recall@50 {told(recall, users)}, more than none {told(gain, users)}")
    draw(curves, counted_shares(platform), arguments.plot)


def read_platform(folder: Path, config: RunConfig, train_days: float) -> Platform:
    """The last day for the test, half a day before it to choose by."""
    logs = load_public("globo", folder)
    split = split_by_time(logs, validation_days=0.5, test_days=1, train_days=train_days)
    encoder, users = build_encoder(split.train, config.examples), user_vocabulary(logs)
    full = encoder.history(logs, users)
    validation, test = (
        watch_targets(encoder, full, users, part.watches).first_watches()
        for part in (split.validation, split.test)
    )
    return Platform(
        encoder, encoder.history(split.train, users), validation, test.sample(20_000, seed=7)
    )


def recall_by_target(trained: TrainedRetrieval, targets: WatchTargets) -> Floats:
    """1 where the article is among the 50 nearest that the user has not read, [B]."""
    queries = trained.query_encoder.queries(targets.history, targets.user_rows, targets.at_ms)
    of_users = trained.user_vectors(targets.history, queries)
    of_items = trained.item_vectors()
    ranked = rank_targets(
        lambda part: of_users[part] @ of_items.T,
        targets.item_rows,
        num_rows=len(of_items),
        seen=SeenRows(*targets.watched_before()),
    )
    return recall_at_k(ranked.ranks, 50).astype(np.float32)


def told(values: Floats, user_rows: NDArray[np.int64]) -> str:
    """The mean, with its interval by user."""
    sums, counts = sum_by_user(user_rows, values), sum_by_user(user_rows, np.ones(len(values)))
    low, high = bootstrap_interval(sums, counts)
    return f"{values.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def moments_ms(platform: Platform) -> NDArray[np.int64]:
    """The middle of each bin of the training part, oldest first."""
    times = platform.history.watches.at_ms
    step = HOURS_A_BIN * 3_600_000
    return np.arange(times.min() + step // 2, times.max(), step)


def articles(platform: Platform) -> NDArray[np.int64]:
    """The most read articles that were published early enough in the training part."""
    catalogue, times = platform.encoder.catalogue, platform.history.watches.at_ms
    published = catalogue.published_at_ms
    is_whole = published > times.min()
    is_whole &= published < times.max() - HOURS_SHOWN * 3_600_000
    is_whole[:NUM_RESERVED_ROWS] = False
    return np.flatnonzero(is_whole)[:NUM_ARTICLES]  # rows stand by falling number of watches


def by_age(platform: Platform, shares: Floats) -> Floats:
    """[moments, articles] → the mean over articles by bin of hours since publication."""
    published = platform.encoder.catalogue.published_at_ms[articles(platform)]
    hours = (moments_ms(platform)[:, None] - published) / 3_600_000
    place = np.floor(hours / HOURS_A_BIN).astype(int)
    num_bins = HOURS_SHOWN // HOURS_A_BIN
    return np.array([shares[place == one].mean() for one in range(num_bins)], np.float32)


def counted_shares(platform: Platform) -> Floats:
    """Share of the watches of a bin that went to each article, by its age."""
    log, step = platform.history.watches, HOURS_A_BIN * 3_600_000
    moments = moments_ms(platform)
    place = np.minimum((log.at_ms - log.at_ms.min()) // step, len(moments) - 1)
    counts = np.zeros((len(moments), platform.encoder.catalogue.num_rows))
    np.add.at(counts, (place, log.rows), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return by_age(platform, shares[:, articles(platform)].astype(np.float32))


def predicted_shares(trained: TrainedRetrieval, platform: Platform) -> Floats:
    """Mean class probability over some contexts, were each of them of a moment of the logs."""
    _, examples = build_watch_examples(platform.encoder, platform.history, completed_share=0.0)
    some = examples[:: max(1, len(examples) // NUM_CONTEXTS)]
    chosen = torch.from_numpy(articles(platform) - NUM_RESERVED_ROWS)
    of_items = torch.from_numpy(trained.item_vectors()[NUM_RESERVED_ROWS:])
    shares = []
    for moment_ms in moments_ms(platform):
        age_days = np.full(len(some), (examples.last_ms - moment_ms) / MS_PER_DAY, np.float32)
        with torch.inference_mode():
            vectors = user_vectors(
                trained.model, trained.query_encoder, platform.history, some.queries, age_days
            )
            probabilities = torch.softmax(vectors @ of_items.T, dim=1)[:, chosen].mean(dim=0)
        shares.append(probabilities.numpy())
    return by_age(platform, np.stack(shares))


def draw(curves: dict[str, Floats], counted: Floats, path: Path) -> None:
    """Three lines over the hours since publication."""
    hours = (np.arange(len(counted)) + 0.5) * HOURS_A_BIN
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(hours, 100 * counted, color=INK, linestyle=":", label="counted")
    axes.plot(hours, 100 * curves["none"], color=OFF, label="without example age")
    axes.plot(hours, 100 * curves["log_end"], color=ON, label="with example age")
    axes.set_xlabel("hours since publication")
    axes.set_ylabel("class probability, %")
    axes.set_title(f"{NUM_ARTICLES} most read articles, Globo news", loc="left", color=INK)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
