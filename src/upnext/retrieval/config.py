"""What `[retrieval]` of run.toml can be told."""

from dataclasses import dataclass, field
from typing import Literal

from upnext.config import require
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.sampling import SamplerName
from upnext.training.precision import Precision
from upnext.training.schedule import ScheduleName, check_warmup

Objective = Literal["sampled_softmax", "full_softmax", "noise_contrastive", "negative_sampling"]
Guide = Literal["recall_at_50", "ndcg_at_10"]
Optimizer = Literal["auto", "adam", "row_adam"]


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """How stage 1 learns."""

    network: RetrievalNetworkConfig = field(default_factory=RetrievalNetworkConfig)
    """Sizes and shape of the network."""
    completed_share: float = 0.0
    """A watch of a smaller share of the item's duration is no positive."""
    examples_per_user: int = 100
    """Examples that each user gives to an epoch at most, drawn anew each time, so that heavy users
    do not dominate; 0 takes all."""
    subsampling: float = 0.0
    """Watches of items with more than this share of all watches become examples more rarely, as in
    word2vec; 0 keeps all."""
    loss: Objective = "sampled_softmax"
    """Against drawn negatives, or over the whole catalogue. With a catalogue no larger than
    num_negatives the full softmax is cheaper than the sampled one and is taken in its place."""
    num_negatives: int = 2_000
    """Negatives drawn for each batch and shared by its examples."""
    sampler: SamplerName = "unigram"
    """How negatives are drawn."""
    sampler_power: float = 0.75
    """Exponent of the unigram samplers."""
    unique_negatives: bool = False
    """Whether no item is drawn twice: what is sure to come up is drawn once, and the other tries go
    to rarer items; the correction for sampling knows. A little nearer to the full softmax, but
    draws then differ in size, and matrix products of ever new shapes can be slower."""
    corrected_log_q: bool = True
    """Whether the sampled softmax leaves the watched item, which was not drawn, without a
    correction; the classic form, which many trainers use, corrects it too."""
    batch_size: int = 2_048
    """Examples a step."""
    optimizer: Optimizer = "auto"
    """`adam` moves every row of every table at every step; `row_adam` only the rows that the step
    read, so that its cost does not grow with the catalogue. `auto` takes row_adam above
    max_dense_items."""
    max_dense_items: int = 50_000
    """With `auto`, the largest catalogue whose tables are updated whole."""
    learning_rate: float = 0.004
    """Step size of Adam at its greatest."""
    learning_rate_schedule: ScheduleName = "linear"
    """How the step size falls until the end of the last planned epoch: in a straight line to 0,
    along half a cosine to 0, or not at all."""
    warmup_share: float = 0.0
    """Share of all steps in which the step size first rises from 0."""
    precision: Precision = "auto"
    """Of matrix products in training. `auto`: bfloat16 where the machine multiplies it faster."""
    skipped_watches: float = 0.0
    """Newest watches that an example does not see, on average; how many is drawn anew each time.
    Above 0 an example asks for a watch a little further ahead, which steadies what is learned from
    small logs and from those whose order within a sitting says little."""
    weight_decay: float = 0.0
    """Decoupled decay per step, times the learning rate (AdamW)."""
    num_epochs: int = 20
    """Passes over the examples at most."""
    guide: Guide = "recall_at_50"
    """What chooses the epoch, measured on validation: whether the next watch is among the
    candidates, or how far up it stands."""
    patience: int = 3
    """Epochs without a better guide on validation after which training stops."""
    num_validation_events: int = 5_000
    """Watches that validation ranks, drawn once."""
    seed: int = 7
    """Seed of initial weights, example order and negatives."""

    def __post_init__(self) -> None:
        counts = ("num_negatives", "batch_size", "num_epochs", "patience", "num_validation_events")
        may_be_0 = ("examples_per_user", "skipped_watches", "weight_decay", "learning_rate")
        least = dict.fromkeys(counts, 1) | dict.fromkeys(
            (*may_be_0, "subsampling", "sampler_power", "completed_share"), 0
        )
        require("retrieval", self, at_least=least | {"max_dense_items": 0})
        check_warmup("retrieval", self.warmup_share)
