"""The task of ranking's contest, as every contestant gets it: a folder of logs and of arrays.

    TASK/logs/              simulated logs, which upnext encodes by itself
    TASK/tables.json        rows and vector size of each embedding table
    TASK/train.npz          the same impressions encoded, one by one, for its rivals
    TASK/validation.npz     a day later
    TASK/test.npz           another day later
    TASK/scores.npy         what a contestant leaves: a score for each impression that it is asked

Each rival runs in a virtual environment of its own, so this needs NumPy alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Part = Literal["train", "validation", "test"]
Network = Literal["mlp", "din"]


@dataclass(frozen=True, kw_only=True)
class RankingSettings:
    """What is the same for all contestants."""

    hidden_sizes: tuple[int, ...] = (256, 128, 64)
    """Fully connected layers, widest first."""
    attention_sizes: tuple[int, ...] = (64, 16)
    """Layers that weigh a past watch, where the network has attention."""
    batch_size: int = 1_000
    """Impressions a step."""
    num_epochs: int = 2
    """Passes over the impressions, 2 or more; the first warms up and is not timed."""
    learning_rate: float = 0.0
    """Of Adam, the same in all steps; 0 leaves each contestant its own."""
    part: Part = "test"
    """Which impressions are scored at the end; settings are chosen on validation."""
    seed: int = 7
    """Seed of whatever is drawn."""


@dataclass(frozen=True)
class EncodedImpressions:
    """M impressions, each with all that ranking may know, request after request.

    item_rows and channel_rows [M]; tag_rows [M, T]; history_rows and history_channel_rows [M, H],
    the last watches, oldest first, padded with 0 behind; num_watches [M] of the unpadded part;
    features [M, F] between 0 and 1; watch_time_s [M], 0 where unwatched. In rows, 0 pads and
    stands for what is not known.
    """

    item_rows: Rows
    channel_rows: Rows
    tag_rows: Rows
    history_rows: Rows
    history_channel_rows: Rows
    num_watches: Rows
    features: Floats
    watch_time_s: Floats

    def __len__(self) -> int:
        return len(self.item_rows)


@dataclass(frozen=True)
class Table:
    """An embedding table: rows of its id space, with the two reserved ones, and entries a row."""

    num_rows: int
    vector_size: int


def logs_of(task: Path) -> Path:
    """Where the logs lie."""
    return task / "logs"


def write_impressions(task: Path, part: Part, impressions: EncodedImpressions) -> None:
    """As a plain .npz."""
    np.savez(task / f"{part}.npz", **vars(impressions))


def read_impressions(task: Path, part: Part) -> EncodedImpressions:
    """What `write_impressions` wrote."""
    with np.load(task / f"{part}.npz", allow_pickle=False) as arrays:
        return EncodedImpressions(**arrays)


def write_tables(task: Path, tables: Mapping[str, Table]) -> None:
    """By name: item, channel, tag."""
    text = json.dumps({name: vars(table) for name, table in tables.items()})
    (task / "tables.json").write_text(text, encoding="utf-8")


def read_tables(task: Path) -> dict[str, Table]:
    """What `write_tables` wrote."""
    told = json.loads((task / "tables.json").read_text(encoding="utf-8"))
    return {name: Table(**table) for name, table in told.items()}


def leave_scores(task: Path, scores: Floats) -> None:
    """For whoever holds the contest: [M], one an impression, in their order."""
    np.save(task / "scores.npy", scores)


def take_scores(task: Path) -> Floats:
    """The scores that the last contestant left; none are left behind."""
    scores: Floats = np.load(task / "scores.npy", allow_pickle=False)
    (task / "scores.npy").unlink()
    return scores
