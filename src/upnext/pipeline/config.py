"""Everything that a run can be told, as `run.toml` has it: one section a room."""

from dataclasses import dataclass, field
from typing import Literal

from upnext.errors import ConfigError
from upnext.examples.encoder import ExamplesConfig
from upnext.index import IndexConfig
from upnext.logs.sources import LogsConfig
from upnext.ranking.train import RankingConfig
from upnext.recommender import RecommenderConfig
from upnext.retrieval.train import RetrievalConfig

Protocol = Literal["time", "last-event"]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which events are kept from training, to choose by and to measure with.

    protocol: `time` holds out the last days; `last-event` each user's last watch, and the one
        before it for validation, as published tables do.
    validation_days, test_days: lengths with `time`.
    """

    protocol: Protocol = "time"
    validation_days: float = 1.0
    test_days: float = 1.0

    def __post_init__(self) -> None:
        for name in ("validation_days", "test_days"):
            if getattr(self, name) <= 0:
                got = str(getattr(self, name))
                raise ConfigError(f"[split] {name}", expected="above 0 days", got=got)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a release is measured.

    mask_watched: whether items that the user has watched are left out of the ranking, as a
        recommender that excludes them would; a target that was watched before is then no target.
    num_targets: watches to be predicted, drawn once from all of the test part.
    num_requests: logged requests whose impressions are put in order.
    num_funnel_targets: of the targets, those followed through all stages.
    num_policy_moments: on simulated logs, moments at which whole pages are valued.
    fresh_days: an item is fresh until so many days after it was published.
    lately_days: windows of the baseline "most watched lately"; the best one on validation counts.
    """

    mask_watched: bool = True
    num_targets: int = 20_000
    num_requests: int = 10_000
    num_funnel_targets: int = 2_000
    num_policy_moments: int = 2_000
    fresh_days: float = 3.0
    lately_days: tuple[float, ...] = (0.25, 1.0, 7.0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole of `run.toml`; it is kept in the release.

    rank: whether stage 2 is trained; without it a release answers in the order of retrieval.
    refit: whether, after validation chose the number of epochs, both stages are trained anew on
        training and validation together: a release is then a validation's length fresher.
    """

    rank: bool = True
    refit: bool = False
    logs: LogsConfig = field(default_factory=LogsConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    recommender: RecommenderConfig = field(default_factory=RecommenderConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
