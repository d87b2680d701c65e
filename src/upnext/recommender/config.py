"""How a release answers."""

from dataclasses import dataclass

from upnext.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RecommenderConfig:
    """How a release answers."""

    num_candidates: int = 300
    """Items that retrieval hands to ranking."""
    example_age_days: float = 0.0
    """The example age that retrieval is told: 0 asks for what is watched at the end of the logs; a
    little below 0 for what will be."""

    def __post_init__(self) -> None:
        if self.num_candidates < 1:
            got = str(self.num_candidates)
            raise ConfigError("[recommender] num_candidates", expected="1 or more", got=got)
