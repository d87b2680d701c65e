"""Everything that a run can be told, as `run.toml` has it: one section a room."""

from dataclasses import dataclass, field
from typing import Literal

from upnext.config import require
from upnext.errors import ConfigError
from upnext.examples.encoder import ExamplesConfig
from upnext.index import IndexConfig
from upnext.logs.sources import LogsConfig
from upnext.pipeline.item_map import MapConfig
from upnext.ranking.config import RankingConfig
from upnext.recommender import RecommenderConfig
from upnext.retrieval.config import RetrievalConfig
from upnext.sources import SourcesConfig

Protocol = Literal["time", "last-event"]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which events are kept from training, to choose by and to measure with."""

    protocol: Protocol = "time"
    """`time` holds out the last days; `last-event` each user's last watch, and the one before it
    for validation, as published tables do."""
    validation_days: float = 1.0
    """With `time`, the length in days of the part that training chooses by."""
    test_days: float = 1.0
    """With `time`, the length in days of the part that is measured with, the last one."""
    train_days: float = 0.0
    """With `time`, learn from so many days before validation; 0 takes all. Where items live for
    hours, as news do, old days only blur what is watched now."""

    def __post_init__(self) -> None:
        above = {"validation_days": 0, "test_days": 0}
        require("split", self, above=above, at_least={"train_days": 0})


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a release is measured."""

    mask_watched: bool = True
    """Whether items that the user has watched are left out of the ranking, as a recommender that
    excludes them would; a target that was watched before is then no target."""
    num_targets: int = 20_000
    """Watches to be predicted, drawn once from all of the test part."""
    num_requests: int = 10_000
    """Logged requests whose impressions are put in order."""
    num_importance_requests: int = 1_000
    """Logged requests among which one input of ranking after another is shuffled."""
    num_funnel_targets: int = 2_000
    """Of the targets, those followed through all stages."""
    num_policy_moments: int = 2_000
    """On simulated logs, moments at which whole pages are valued."""
    num_off_policy_slots: int = 5_000
    """Where logs hold propensities, logged first slots from which other choices are valued."""
    num_new_user_watches: int = 10
    """A user is new to ranking until so many watches lie before the request."""
    fresh_days: float = 3.0
    """An item is fresh until so many days after it was published."""
    lately_days: tuple[float, ...] = (0.25, 1.0, 7.0)
    """Windows, in days, of the baseline "most watched lately"; the best one on validation
    counts."""

    def __post_init__(self) -> None:
        counts = (
            "num_targets",
            "num_requests",
            "num_importance_requests",
            "num_funnel_targets",
            "num_policy_moments",
            "num_off_policy_slots",
            "num_new_user_watches",
        )
        above = {"fresh_days": 0, "lately_days": 0}
        require("evaluation", self, at_least=dict.fromkeys(counts, 1), above=above)
        if not self.lately_days:
            raise ConfigError("[evaluation] lately_days", expected="one or more", got="none")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole of `run.toml`; it is kept in the release."""

    rank: bool = True
    """Whether stage 2 is trained; without it a release answers in the order of retrieval."""
    refit: bool = False
    """Whether, after validation chose the number of epochs, both stages are trained anew on
    training and validation together: a release is then a validation's length fresher."""
    logs: LogsConfig = field(default_factory=LogsConfig)
    """Where each table lies and what counts as a bad row."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Which events are kept from training."""
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    """What of the logs becomes input."""
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    """How stage 1 learns."""
    index: IndexConfig = field(default_factory=IndexConfig)
    """How candidates are found for a user vector."""
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    """Which candidates are counted beside those that retrieval finds."""
    ranking: RankingConfig = field(default_factory=RankingConfig)
    """How stage 2 learns."""
    recommender: RecommenderConfig = field(default_factory=RecommenderConfig)
    """How a release answers."""
    map: MapConfig = field(default_factory=MapConfig)
    """How many of its items a release shows on a plane."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How a release is measured."""

    def __post_init__(self) -> None:
        segment, declared = self.sources.segment, self.examples.user_features
        if segment is not None and segment not in declared:
            raise ConfigError(
                "[sources] segment",
                expected=f"one of [examples] user_features: {', '.join(declared) or 'none'}",
                got=repr(segment),
            )
        if self.ranking.network.kind == "wide-and-deep":
            self.ranking.network.check_crosses(self.examples.context_names)
