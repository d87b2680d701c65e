"""The retrieval network: history, searches and context through a tower → user vector."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from upnext.config import require
from upnext.errors import ConfigError
from upnext.retrieval.attention import AttentionConfig, CausalAttention
from upnext.training.group import ALONE, Group
from upnext.training.precision import as_multiplied
from upnext.training.side_features import SideFeatures
from upnext.training.tables import new_table

EXPORTED_WATCHES = 3
"""Length of the history that the network is traced with when it is exported."""

WIDTH_UNIT = 8
"""The tower's inputs are filled up with zeros to a multiple of it: in bfloat16 an odd width costs a
sixth more."""

ExampleAge = Literal["none", "log_end", "publication"]


@dataclass(frozen=True, kw_only=True)
class RetrievalNetworkConfig:
    """Sizes and shape of the retrieval network."""

    vector_size: int = 64
    """D of user and item vectors."""
    embedding_size: int = 64
    """Size of the embeddings of past watches."""
    search_embedding_size: int = 32
    """Size of the embeddings of search tokens."""
    context_embedding_size: int = 8
    """Size of the embeddings of hour, weekday and user features."""
    history: Literal["average", "attention"] = "average"
    """How past watches are told: by the paper's averages, or by causal self-attention beside them,
    which is several times the work."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    """Shape of the self-attention, where `history` asks for it."""
    hidden_sizes: tuple[int, ...] = (256, 128)
    """Layers of the tower before the user vector, widest first."""
    activation: Literal["relu", "silu"] = "relu"
    """What the hidden layers apply; the paper's is relu."""
    user_vector_activation: bool = False
    """Whether the user vector passes the activation too, as in the paper; a linear last layer lets
    a user vector have negative entries."""
    linear_path: bool = True
    """Whether the history also reaches the user vector directly, by one matrix, so that the tower
    need only learn what is not linear."""
    tied: bool = False
    """Whether watch embeddings and item vectors are one table. The paper keeps two; on small logs
    one learns more from each watch."""
    example_age: ExampleAge = "log_end"
    """Which age of the training example is an input, in days. `log_end`: how long before the end of
    the logs the watch was, as in the paper; it lets popularity rise and fall. `publication`: how
    old the watched item was then; with 0 at serving it favours fresh items. `none`: neither."""
    normalised: bool = False
    """Whether user and item vectors have length 1, so that scores are cosines over temperature."""
    temperature: float = 1.0
    """Scores are divided by it before any correction for sampling."""
    initial_deviation: float = 0.0
    """Standard deviation of the first entries of item tables; 0 stands for 1 / √size, and before
    attention for 1 / watch_scale."""
    dropout: float = 0.0
    """Share of the history's entries that a training step drops."""
    item_dropout: float = 0.0
    """Share of a step's items that are told by their declared features alone, so that these learn
    to stand for an item that is new."""

    def __post_init__(self) -> None:
        where = "retrieval.network"
        sizes = ("vector_size", "embedding_size", "search_embedding_size", "context_embedding_size")
        require(
            where,
            self,
            at_least=dict.fromkeys((*sizes, "hidden_sizes"), 1),
            above={"temperature": 0},
        )
        for name in ("dropout", "item_dropout"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise ConfigError(
                    f"[{where}] {name}", expected="0 or more, below 1", got=str(share)
                )
        if self.history == "attention":
            self.attention.check_width(self.embedding_size)
        if self.tied and self.embedding_size != self.vector_size:
            raise ConfigError(
                f"[{where}] tied",
                expected="embedding_size and vector_size alike",
                got=f"{self.embedding_size} and {self.vector_size}",
            )


@dataclass(frozen=True, kw_only=True)
class InputSizes:
    """What the logs decide of the network's shape."""

    num_items: int
    """N, rows 0 and 1 included."""
    num_search_tokens: int
    """Rows of the table of search tokens."""
    context_sizes: Sequence[int]
    """Rows of each context table."""
    num_context_values: int
    """V, context that is no category."""
    watch_windows: Sequence[int]
    """Lengths of the windows of history that are averaged; the last is the longest."""
    longest_age_days: float
    """The greatest example age in training, to scale it by."""


class RetrievalModel(nn.Module):
    """Tables, history encoder and tower. Unless tied, item vectors have a table of their own.

    Source: Covington, Adams, Sargin 2016, section 3.2.
    """

    def __init__(
        self,
        config: RetrievalNetworkConfig,
        sizes: InputSizes,
        *,
        side: SideFeatures | None = None,
        is_sparse: bool = False,
        group: Group = ALONE,
    ) -> None:
        super().__init__()
        self.config = config
        deviation = config.initial_deviation
        if config.history == "attention":
            deviation = deviation or 1 / config.attention.watch_scale
        self.watch_table = new_table(
            sizes.num_items,
            config.embedding_size,
            is_sparse=is_sparse,
            group=group,
            deviation=deviation,
        )
        self.search_table = new_table(
            sizes.num_search_tokens, config.search_embedding_size, is_sparse=is_sparse, group=group
        )
        self.item_table = (
            self.watch_table
            if config.tied
            else new_table(
                sizes.num_items,
                config.vector_size,
                is_sparse=is_sparse,
                group=group,
                deviation=deviation,
            )
        )
        self.side = side
        self.tower = Tower(config, sizes)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.item_table.weight.device

    def watch_vectors(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows [R] → what each stands for in a history, [R, E]."""
        if self.config.tied:
            return self._described(rows)
        embeddings: torch.Tensor = self.watch_table(rows)
        return embeddings

    def item_vectors(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows [R] → item vectors [R, D]: the item's own, plus what its features say of it."""
        vectors = self._described(rows)
        return nn.functional.normalize(vectors) if self.config.normalised else vectors

    def _described(self, rows: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.item_table(rows)
        if self.side is None:
            return vectors
        if self.training and self.config.item_dropout > 0:
            is_known = torch.rand(len(rows), 1, device=rows.device) >= self.config.item_dropout
            vectors = vectors * is_known
        described: torch.Tensor = vectors + self.side(rows)
        return described


class Tower(nn.Module):
    """Everything dense between embeddings and the user vector; exported as it is."""

    def __init__(self, config: RetrievalNetworkConfig, sizes: InputSizes) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(
            nn.Embedding(size, config.context_embedding_size) for size in sizes.context_sizes
        )
        self.config = config
        self.longest_age_days = max(sizes.longest_age_days, 1e-6)
        num_windows = len(sizes.watch_windows)
        num_parts = num_windows + (1 if config.history == "attention" else 0)
        history_width = config.embedding_size * num_parts
        width = (
            history_width
            + config.search_embedding_size
            + config.context_embedding_size * len(sizes.context_sizes)
            + sizes.num_context_values
            + (0 if config.example_age == "none" else 2)
        )
        self.attention = (
            CausalAttention(
                config.attention,
                embedding_size=config.embedding_size,
                max_watches=max(EXPORTED_WATCHES, sizes.watch_windows[-1]),
            )
            if config.history == "attention"
            else None
        )
        self.num_blank = -width % WIDTH_UNIT
        width += self.num_blank
        activation = nn.ReLU if config.activation == "relu" else nn.SiLU
        layers: list[nn.Module] = []
        for size in config.hidden_sizes:
            layers += [nn.Linear(width, size), activation()]
            width = size
        layers.append(nn.Linear(width, config.vector_size))
        self.last_activation = activation() if config.user_vector_activation else nn.Identity()
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.linear_path = (
            nn.Linear(history_width, config.vector_size, bias=False) if config.linear_path else None
        )
        if config.tied and self.linear_path is not None:
            with torch.no_grad():
                eye = torch.eye(config.vector_size)
                self.linear_path.weight.zero_()
                averages = self.linear_path.weight[:, -config.vector_size * num_windows :]
                averages.copy_(torch.cat([eye] * num_windows, dim=1))

    def forward(
        self,
        watch_means: torch.Tensor,
        search_mean: torch.Tensor,
        context_rows: torch.Tensor,
        context_values: torch.Tensor,
        example_age_days: torch.Tensor,
    ) -> torch.Tensor:
        """[B, W · E], [B, Es], [B, C], [B, V], [B] → user vectors [B, D].

        With self-attention its state comes before the averages, [B, E + W · E].

        Example age enters as a share x of the training period, with √x for the recent days; an age
        below 0, as serving may claim, continues both to the other side. With `normalised` the
        vectors have length 1; the temperature divides them, so that u · v is the score itself.
        """
        watch_means = as_multiplied(watch_means)
        contexts = [table(context_rows[:, place]) for place, table in enumerate(self.contexts)]
        parts = [self.dropout(watch_means), search_mean, *contexts, context_values]
        if self.config.example_age != "none":
            share = (example_age_days / self.longest_age_days)[:, None]
            parts += [share, share.sign() * share.abs().sqrt()]
        parts.append(context_values.new_zeros(context_values.shape[0], self.num_blank))
        inputs = torch.cat([part.to(watch_means.dtype) for part in parts], dim=1)
        user_vectors: torch.Tensor = self.layers(inputs)
        if self.linear_path is not None:
            user_vectors = user_vectors + self.linear_path(self.dropout(watch_means))
        user_vectors = self.last_activation(user_vectors)
        if self.config.normalised:
            user_vectors = nn.functional.normalize(user_vectors.float())
        if self.config.temperature == 1.0:
            return user_vectors
        return user_vectors / self.config.temperature


class AttentiveTower(nn.Module):
    """The tower behind self-attention over one history a line; exported as it is."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower

    def forward(
        self,
        watch_vectors: torch.Tensor,
        num_watched: torch.Tensor,
        watch_means: torch.Tensor,
        search_mean: torch.Tensor,
        context_rows: torch.Tensor,
        context_values: torch.Tensor,
        example_age_days: torch.Tensor,
    ) -> torch.Tensor:
        """[B, L, E] oldest first and padded at the end, [B] watches of each, and the rest → [B, D].

        An empty history is a vector of zeros.
        """
        assert self.tower.attention is not None
        states = self.tower.attention(watch_vectors)
        last = (num_watched - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
        state = states.gather(1, last)[:, 0] * (num_watched > 0)[:, None]
        user_vectors: torch.Tensor = self.tower(
            torch.cat([state, watch_means], dim=1),
            search_mean,
            context_rows,
            context_values,
            example_age_days,
        )
        return user_vectors
