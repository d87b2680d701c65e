"""The task of retrieval's contest: one file of watches, one way to rank.

Each rival runs in a virtual environment of its own, so this needs NumPy alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Part = Literal["validation", "test"]

RANKED_AT_ONCE = 1_024
EVENTS_HELD_OUT = 2
"""Of each user's end: one for validation, and after it one for the test."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same for all contestants, where their libraries let them."""

    vector_size: int = 64
    """D of user and item vectors, and of the embeddings of past watches."""
    num_watches: int = 50
    """H, slots of history."""
    hidden_sizes: tuple[int, ...] = (128,)
    """Layers of the tower before the user vector."""
    num_negatives: int = 2_000
    """Drawn anew for each batch and shared by its examples."""
    batch_size: int = 1_024
    """Examples a step."""
    num_epochs: int = 2
    """Passes over the examples, 2 or more; the first warms up and is not timed."""
    learning_rate: float = 0.0
    """Of Adam; 0 leaves each contestant its own."""
    part: Part = "test"
    """Which watches are ranked at the end; settings are chosen on validation."""
    seed: int = 7
    """Seed of whatever is drawn."""


@dataclass(frozen=True)
class Moments:
    """Watches to be predicted, each with what came before it.

    `history_rows` [B, H], oldest first, padded with 0 behind; `lengths` [B] of the unpadded part;
    `target_rows` [B].
    """

    history_rows: Rows
    lengths: Rows
    target_rows: Rows

    def __len__(self) -> int:
        return len(self.target_rows)


@dataclass(frozen=True)
class Task:
    """Watches user by user, each user's in order of time.

    User u's are those in [starts[u], starts[u + 1]), 3 of them or more. item_rows run from 1 to
    num_items; 0 pads. Shapes: starts [U + 1]; item_rows and at_ms [E].
    """

    starts: NDArray[np.int64]
    item_rows: Rows
    at_ms: NDArray[np.int64]

    @property
    def num_items(self) -> int:
        """N."""
        return int(self.item_rows.max())

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.starts) - 1

    @property
    def in_training(self) -> NDArray[np.bool_]:
        """[E] which watches may be learned from: all but each user's last two."""
        learned = np.ones(len(self.item_rows), bool)
        for back in range(1, EVENTS_HELD_OUT + 1):
            learned[self.starts[1:] - back] = False
        return learned

    def training(self, num_watches: int) -> Moments:
        """Every watch of the training part that another one came before, user by user."""
        is_example = self.in_training
        is_example[self.starts[:-1]] = False
        return self._moments(np.flatnonzero(is_example), num_watches)

    def held_out(self, part: Part, num_watches: int) -> Moments:
        """Each user's last watch (test), or the one before it (validation)."""
        return self._moments(self.held_out_events(part), num_watches)

    def held_out_events(self, part: Part) -> NDArray[np.int64]:
        """[U] places of the watches that `held_out` asks for."""
        back = 1 if part == "test" else EVENTS_HELD_OUT
        places: NDArray[np.int64] = self.starts[1:] - back
        return places

    def num_times_watched(self) -> NDArray[np.int64]:
        """[N + 1] watches of each item in the training part."""
        return np.bincount(self.item_rows[self.in_training], minlength=self.num_items + 1)

    def _moments(self, events: NDArray[np.int64], num_watches: int) -> Moments:
        user_rows = np.searchsorted(self.starts, events, side="right") - 1
        first = np.maximum(self.starts[user_rows], events - num_watches)
        lengths = (events - first).astype(np.int32)
        slots = np.arange(num_watches, dtype=np.int32)
        places = np.minimum(first.astype(np.int32)[:, None] + slots, len(self.item_rows) - 1)
        filled = slots < lengths[:, None]
        return Moments(self.item_rows[places] * filled, lengths, self.item_rows[events])


def read_task(path: Path) -> Task:
    """What `write_task` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Task(arrays["starts"], arrays["item_rows"], arrays["at_ms"])


def write_task(task: Task, path: Path) -> None:
    """As a plain .npz."""
    np.savez(path, **vars(task))


def target_ranks(user_vectors: Floats, item_vectors: Floats, targets: Rows) -> NDArray[np.int64]:
    """[B] ranks of the targets among all N items, from 1; watched ones are not left out.

        rank = 1 + #(u · v_j > u · v_target) + #(u · v_j = u · v_target and j < target)

    Args:
        user_vectors: [B, D]. item_vectors: [N + 1, D], row 0 being the padding.
    Raises: ValueError: a score is no number.
    """
    ranks = np.empty(len(targets), np.int64)
    rows = np.arange(1, len(item_vectors))
    for start in range(0, len(targets), RANKED_AT_ONCE):
        part = slice(start, start + RANKED_AT_ONCE)
        scores = user_vectors[part] @ item_vectors.T
        if np.isnan(scores).any():
            raise ValueError("a score is no number: the training diverged.")
        target = targets[part, None]
        own = np.take_along_axis(scores, target.astype(np.int64), axis=1)
        is_before = (scores[:, 1:] > own) | ((scores[:, 1:] == own) & (rows < target))
        ranks[part] = 1 + is_before.sum(axis=1)
    return ranks


def quality(user_vectors: Floats, item_vectors: Floats, targets: Rows) -> dict[str, float]:
    """Recall@50, Recall@10 and NDCG@10 over all targets; each has one item that counts."""
    ranks = target_ranks(user_vectors, item_vectors, targets)
    gains = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
    return {
        "recall_at_50": float((ranks <= 50).mean()),
        "recall_at_10": float((ranks <= 10).mean()),
        "ndcg_at_10": float(gains.mean()),
    }
