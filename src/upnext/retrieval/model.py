"""The retrieval network: averaged history, searches and context through a tower → user vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from upnext.config import require
from upnext.errors import ConfigError
from upnext.examples.history import EventLog, Indices
from upnext.schema import UNKNOWN_ROW


@dataclass(frozen=True, kw_only=True)
class RetrievalNetworkConfig:
    """Sizes of the retrieval network."""

    vector_size: int = 64
    """D of user and item vectors."""
    embedding_size: int = 64
    """Size of the embeddings of past watches."""
    search_embedding_size: int = 32
    """Size of the embeddings of search tokens."""
    context_embedding_size: int = 8
    """Size of the embeddings of hour, weekday and user features."""
    hidden_sizes: tuple[int, ...] = (256, 128)
    """Layers of the tower before the user vector, widest first."""
    activation: Literal["relu", "silu"] = "relu"
    """What the hidden layers apply; the paper's is relu."""
    user_vector_activation: bool = False
    """Whether the user vector passes the activation too, as in the paper; a linear last layer lets
    a user vector have negative entries."""
    linear_path: bool = True
    """Whether the averages also reach the user vector directly, by one matrix, so that the tower
    need only learn what is not linear."""
    tied: bool = False
    """Whether watch embeddings and item vectors are one table. The paper keeps two; on small logs
    one learns more from each watch."""
    example_age: bool = True
    """Whether the age of the training example is an input (0 at serving)."""
    dropout: float = 0.0
    """Share of the averaged history's entries that a training step drops."""

    def __post_init__(self) -> None:
        sizes = ("vector_size", "embedding_size", "search_embedding_size", "context_embedding_size")
        require("retrieval.network", self, at_least=dict.fromkeys((*sizes, "hidden_sizes"), 1))
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                "[retrieval.network] dropout", expected="0 or more, below 1", got=str(self.dropout)
            )
        if self.tied and self.embedding_size != self.vector_size:
            raise ConfigError(
                "[retrieval.network] tied",
                expected="embedding_size and vector_size alike",
                got=f"{self.embedding_size} and {self.vector_size}",
            )


class RetrievalModel(nn.Module):
    """Tables and tower. Unless tied, the item vectors are a table of their own.

    Source: Covington, Adams, Sargin 2016, section 3.2.
    """

    def __init__(
        self,
        config: RetrievalNetworkConfig,
        *,
        num_items: int,
        num_search_tokens: int,
        context_sizes: Sequence[int],
        num_watch_windows: int,
        num_context_values: int,
        longest_age_days: float,
    ) -> None:
        super().__init__()
        self.watch_embeddings = _table(num_items, config.embedding_size)
        self.search_embeddings = _table(num_search_tokens, config.search_embedding_size)
        self.item_vectors = (
            self.watch_embeddings if config.tied else _table(num_items, config.vector_size)
        )
        self.tower = Tower(
            config,
            context_sizes=context_sizes,
            num_watch_windows=num_watch_windows,
            num_context_values=num_context_values,
            longest_age_days=longest_age_days,
        )


class Tower(nn.Module):
    """Everything dense between the averaged embeddings and the user vector; exported as it is."""

    def __init__(
        self,
        config: RetrievalNetworkConfig,
        *,
        context_sizes: Sequence[int],
        num_watch_windows: int,
        num_context_values: int,
        longest_age_days: float,
    ) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(
            nn.Embedding(size, config.context_embedding_size) for size in context_sizes
        )
        self.dropout = nn.Dropout(config.dropout)
        self.example_age = config.example_age
        self.longest_age_days = max(longest_age_days, 1e-6)
        activation = nn.ReLU if config.activation == "relu" else nn.SiLU
        width = (
            config.embedding_size * num_watch_windows
            + config.search_embedding_size
            + config.context_embedding_size * len(context_sizes)
            + num_context_values
            + (2 if config.example_age else 0)
        )
        layers: list[nn.Module] = []
        for size in config.hidden_sizes:
            layers += [nn.Linear(width, size), activation()]
            width = size
        layers.append(nn.Linear(width, config.vector_size))
        if config.user_vector_activation:
            layers.append(activation())
        self.layers = nn.Sequential(*layers)
        watch_width = config.embedding_size * num_watch_windows
        self.linear_path = (
            nn.Linear(watch_width, config.vector_size, bias=False) if config.linear_path else None
        )
        if config.tied and self.linear_path is not None:
            with torch.no_grad():
                eye = torch.eye(config.vector_size)
                self.linear_path.weight.copy_(torch.cat([eye] * num_watch_windows, dim=1))

    def forward(
        self,
        watch_means: torch.Tensor,
        search_mean: torch.Tensor,
        context_rows: torch.Tensor,
        context_values: torch.Tensor,
        example_age_days: torch.Tensor,
    ) -> torch.Tensor:
        """[B, W · E], [B, Es], [B, C], [B, V], [B] → user vectors [B, D].

        Example age enters as a share x of the training period, with √x for the recent days.
        """
        contexts = [table(context_rows[:, place]) for place, table in enumerate(self.contexts)]
        parts = [self.dropout(watch_means), search_mean, *contexts, context_values]
        if self.example_age:
            share = (example_age_days / self.longest_age_days).clamp(min=0.0)[:, None]
            parts += [share, share.sqrt()]
        user_vectors: torch.Tensor = self.layers(torch.cat(parts, dim=1))
        if self.linear_path is not None:
            user_vectors = user_vectors + self.linear_path(self.dropout(watch_means))
        return user_vectors


def window_means(
    table: nn.Embedding,
    log: EventLog,
    lo: Indices,
    hi: Indices,
    lengths: Sequence[int],
    *,
    skipped: Indices | None = None,
) -> torch.Tensor:
    """Mean embeddings of the last `lengths` events of each window [lo, hi): [B, W · E].

    Windows of one user overlap almost wholly. Each event's embedding is read once and prefix sums
    are taken, in float64: they grow with the call, their differences do not. A window's sum is then
    one difference, and its gradient as cheap. Unknown rows count as absent; the mean of nothing is
    zero. Neither `lo` nor `hi` may fall from one window to the next. `skipped` [B] leaves out so
    many of a window's newest events.
    """
    events, local_lo, local_hi = _covering_events(lo, hi)
    if skipped is not None:
        local_hi = np.maximum(local_lo, local_hi - skipped)
    rows = log.rows[events].astype(np.int64)
    known = rows > UNKNOWN_ROW
    counts = np.concatenate([[0], np.cumsum(known)])
    device = table.weight.device
    embedded = table(torch.from_numpy(rows[known]).to(device))
    prefix = nn.functional.pad(embedded.cumsum(dim=0, dtype=torch.float64), (0, 0, 1, 0))
    end = counts[local_hi]
    summed = prefix[torch.from_numpy(end).to(device)]
    means = []
    for length in lengths:
        first = counts[np.maximum(local_lo, local_hi - length)]
        size = torch.from_numpy(np.maximum(end - first, 1).astype(np.float32)).to(device)
        difference = summed - prefix[torch.from_numpy(first).to(device)]
        means.append(difference.to(embedded.dtype) / size[:, None])
    return torch.cat(means, dim=1)


def _covering_events(lo: Indices, hi: Indices) -> tuple[Indices, Indices, Indices]:
    """The events that any window holds, each once, and the windows as places among them."""
    opens = np.ones(len(lo), bool)
    opens[1:] = lo[1:] > hi[:-1]
    segment = np.cumsum(opens) - 1
    closes = np.append(opens[1:], True)
    segment_lo, segment_hi = lo[opens], hi[closes]
    offsets = np.concatenate([[0], np.cumsum(segment_hi - segment_lo)])
    shift = segment_lo - offsets[:-1]
    events = np.arange(offsets[-1]) + np.repeat(shift, segment_hi - segment_lo)
    return events, lo - shift[segment], hi - shift[segment]


def _table(num_rows: int, size: int) -> nn.Embedding:
    table = nn.Embedding(num_rows, size)
    nn.init.normal_(table.weight, std=size**-0.5)
    with torch.no_grad():
        table.weight[: UNKNOWN_ROW + 1] = 0.0
    return table
