"""How stage 2 is built and learns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from upnext.config import require
from upnext.errors import ConfigError
from upnext.ranking.calibration import CalibrationKind
from upnext.ranking.loss import WeightedLogisticVariant
from upnext.training.precision import Precision
from upnext.training.schedule import ScheduleName, check_warmup

NetworkKind = Literal["mlp", "wide-and-deep", "din"]
ObjectiveName = Literal["weighted-logistic", "click", "click-and-share", "regression", "d2q"]
Guide = Literal["validation_weighted_per_user_loss", "validation_loss"]
Weighting = Literal["loss", "up-sampling"]
WideOptimizer = Literal["ftrl", "adagrad"]
Optimizer = Literal["auto", "adam", "row_adam"]

CROSSED_INPUTS = {
    "item": "item_rows",
    "channel": "channel_rows",
    "tags": "tag_rows",
    "position": "position",
    "history_items": "history_rows",
    "history_channels": "history_channel_rows",
}
"""Which raw input each field of a cross is; context fields come beside these."""


@dataclass(frozen=True, kw_only=True)
class RankingNetworkConfig:
    """What is between a candidate's features and its expected watch time."""

    kind: NetworkKind = "mlp"
    """`mlp`, the paper's; `wide-and-deep` adds weights of declared crosses; `din` attends to the
    past watches that the candidate is like."""
    hidden_sizes: tuple[int, ...] = (256, 128, 64)
    """Layers, widest first; none makes a logistic regression."""
    embedding_scale: float = 2.0
    """An id space of n rows gets vectors of embedding_scale · log2(n) entries."""
    context_embedding_size: int = 8
    """Size of the embeddings of hour, weekday and user features."""
    powers: bool = True
    """Whether each continuous feature enters as its square and its root too."""
    logs: bool = True
    """Whether each continuous feature enters as its scaled log too, which tells large values apart
    where quantiles cannot."""
    factors: int = 32
    """Length of the vectors of request and candidate whose product is added to what the layers
    say; 0 leaves the paper's network."""
    manner_size: int = 8
    """Length of the vectors that tell a channel's manner, learned from who watched what of it: a
    user's liking of manners and of tags, estimated from his past, are features of a candidate; 0
    leaves them out."""
    dropout: float = 0.1
    """Share of the vectors' entries that a training step leaves out."""
    attended_watches: int = 50
    """With `din`, the last watches that are attended to."""
    attention_size: int = 32
    """With `din`, the width of the network that weighs a watch."""
    crosses: tuple[tuple[str, ...], ...] = (("history_items", "item"), ("history_channels", "tags"))
    """With `wide-and-deep`, the fields that are crossed, two or three a cross, out of item,
    channel, tags, history_items, history_channels, position, hour, weekday and the declared user
    features."""
    num_cross_buckets: int = 262_144
    """With `wide-and-deep`, weights that all crosses are hashed into."""
    wide_optimizer: WideOptimizer = "ftrl"
    """With `wide-and-deep`, what moves these weights."""
    wide_learning_rate: float = 0.05
    """Its step size."""
    wide_l1: float = 1e-5
    """With `ftrl`, the pull of weights to exactly 0."""

    def __post_init__(self) -> None:
        sizes = ("hidden_sizes", "context_embedding_size", "attended_watches", "attention_size")
        least = dict.fromkeys(sizes, 1) | dict.fromkeys(
            ("factors", "manner_size", "dropout", "wide_l1"), 0
        )
        require(
            "ranking.network",
            self,
            at_least=least | {"num_cross_buckets": 2},
            above={"embedding_scale": 0, "wide_learning_rate": 0},
        )
        if self.dropout >= 1:
            where = "[ranking.network] dropout"
            raise ConfigError(where, expected="below 1", got=str(self.dropout))

    def check_crosses(self, context_names: Sequence[str]) -> None:
        """`context_names`: the fields of context that may be crossed, clock and user features.

        Raises: ConfigError: a cross names something else, or not two or three fields.
        """
        fields = [*CROSSED_INPUTS, *context_names]
        for cross in self.crosses:
            if not set(cross) <= set(fields) or not 2 <= len(cross) <= 3:
                raise ConfigError(
                    "[ranking.network] crosses",
                    expected=f"two or three of {', '.join(fields)} each",
                    got=", ".join(cross) or "none",
                    hint="[examples] clock and user_features declare others.",
                )

    def embedding_size(self, num_rows: int) -> int:
        """Vector size of an id space, proportional to the log of its size.

        >>> RankingNetworkConfig(embedding_scale=2.0).embedding_size(1024)
        20
        """
        return max(1, round(self.embedding_scale * math.log2(num_rows)))


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """How stage 2 learns."""

    network: RankingNetworkConfig = field(default_factory=RankingNetworkConfig)
    """What is between features and expected watch time."""
    objective: ObjectiveName = "weighted-logistic"
    """What is learned; all of them predict seconds per impression. `weighted-logistic`: odds that
    are seconds. `click`: clicks, times the mean watch. `click-and-share`: clicks, and the share of
    its duration that a watch lasts. `regression`: the seconds themselves, by least squares.
    `d2q`: clicks, and where a watch stands among those of items about as long."""
    variant: WeightedLogisticVariant = "exact"
    """Of weighted-logistic: `exact` makes the odds E[T]; `paper` E[T] / (1 − click rate)."""
    weighting: Weighting = "loss"
    """Of weighted-logistic: watch times weigh in the loss, or decide how often an impression is
    drawn."""
    calibration: CalibrationKind = "isotonic"
    """What brings predictions to the seconds that validation saw: a rising curve, one factor, or
    nothing. The order of a page stays as it is."""
    source_parts: int = 2
    """Into how many parts, by time, the training impressions are cut, to tell ranking what the
    sources of candidates thought of each: those of a part are scored by retrieval and counts that
    learned from what lies before it, for which retrieval is trained anew. Below 2 ranking is told
    nothing of the sources."""
    requests_per_batch: int = 200
    """Requests a step, each with all its impressions."""
    optimizer: Optimizer = "auto"
    """`adam` moves every row of every table at every step; `row_adam` only the rows that the step
    read. `auto` takes row_adam above max_dense_items."""
    max_dense_items: int = 50_000
    """With `auto`, the largest catalogue whose tables are updated whole."""
    learning_rate: float = 0.002
    """Step size of Adam at its highest."""
    learning_rate_schedule: ScheduleName = "linear"
    """How the learning rate falls until the end of the last planned epoch: in a straight line to 0,
    along half a cosine to 0, or not at all."""
    warmup_share: float = 0.0
    """Share of all planned steps, below 1, in which the learning rate first rises from 0."""
    weight_decay: float = 0.0
    """Decoupled decay per step, times the learning rate (AdamW)."""
    precision: Precision = "auto"
    """Of matrix products in training. `auto`: bfloat16 where the machine multiplies it faster."""
    num_epochs: int = 5
    """Passes over the impressions at most."""
    guide: Guide = "validation_weighted_per_user_loss"
    """What chooses the epoch: the share of watch time that is ranked below something unwatched on
    the same page, or the mean loss. Where no page of validation holds both, as where each has but
    one slot, it is the mean loss."""
    patience: int = 2
    """Epochs without a better guide on validation after which training stops."""
    num_validation_requests: int = 5_000
    """Requests that validation scores, drawn once."""
    seed: int = 7
    """Seed of initial weights and the order of requests."""

    def __post_init__(self) -> None:
        counts = ("requests_per_batch", "num_epochs", "patience", "num_validation_requests")
        may_be_0 = ("learning_rate", "weight_decay", "max_dense_items", "source_parts")
        require("ranking", self, at_least=dict.fromkeys(counts, 1) | dict.fromkeys(may_be_0, 0))
        check_warmup("ranking", self.warmup_share)
        if self.weighting == "up-sampling" and self.objective != "weighted-logistic":
            raise ConfigError(
                "[ranking] weighting",
                expected="'loss', as only weighted-logistic weighs watch times",
                got=f"'up-sampling' with objective = {self.objective!r}",
            )
