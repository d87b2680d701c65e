"""All features of ranking: fitted in training, kept in a release, the same wherever asked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from upnext.features.counted import in_all, of_candidates, of_queries, with_ids, with_items
from upnext.features.grouped import grouped
from upnext.features.liking import Manners, likings
from upnext.features.names import CANDIDATE_FEATURES, LIKING_FEATURES, QUERY_FEATURES
from upnext.features.scale import Scale
from upnext.schema import Floats

QUERY_LEVELS, CANDIDATE_LEVELS = "query_levels", "candidate_levels"
"""What networks call them."""


class Raw(Protocol):
    """Arrays by name, as `examples.ranking_inputs.RankingInputs` has them."""

    def __getitem__(self, name: str, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class RankingFeatures:
    """What features were like in training, and what was learned of channels' manners.

    powers, logs: whether the squares and roots of quantiles, and scaled logs, stand beside them.
    manners: None where likings are no features.
    """

    queries: Scale
    candidates: Scale
    manners: Manners | None
    powers: bool
    logs: bool

    @classmethod
    def unfitted(
        cls, *, num_sources: int, manners: Manners | None, powers: bool, logs: bool
    ) -> Self:
        """Before anything was learned, for so many sources of candidates."""
        num_candidate = len(CANDIDATE_FEATURES) + num_sources
        num_candidate += 0 if manners is None else len(LIKING_FEATURES)
        return cls(
            queries=Scale.unfitted(len(QUERY_FEATURES)),
            candidates=Scale.unfitted(num_candidate),
            manners=manners,
            powers=powers,
            logs=logs,
        )

    @property
    def num_sources(self) -> int:
        """S, the scores of each candidate that are features."""
        num_likings = 0 if self.manners is None else len(LIKING_FEATURES)
        return self.candidates.num_features - len(CANDIDATE_FEATURES) - num_likings

    @property
    def widths(self) -> tuple[int, int]:
        """Columns of what `levels` tells of a request and of a candidate."""
        each = (3 if self.powers else 1) + (1 if self.logs else 0)
        return each * self.queries.num_features, each * self.candidates.num_features

    def fitted(self, of_queries: Floats, of_candidates: Floats) -> Self:
        """With the scales of values in training, [Fq, n] and [F, m], as `raw` tells them."""
        return replace(
            self, queries=Scale.fitted(of_queries), candidates=Scale.fitted(of_candidates)
        )

    def raw(self, inputs: Raw) -> tuple[Floats, Floats]:
        """[Fq, R] and [F, M] as they are, nan where one is not known."""
        told = _Told(inputs)
        order, starts = grouped(told["request_index"], len(told["history_rows"]))
        share = watch_share(told)
        watched = (share, told["history_watch_time_s"], told["history_age_s"])
        items = with_items(
            *(*watched, told["history_place"]),
            *(told["shown_age_s"], told["shown_place"], told["item_place"]),
        )
        channels = with_ids(
            *(told["history_channel_rows"][..., None], *watched),
            *(told["shown_channel_rows"][..., None], order, starts, told["channel_rows"][:, None]),
        )
        tags = with_ids(
            *(told["history_tag_rows"], *watched, told["shown_tag_rows"]),
            *(order, starts, told["tag_rows"]),
        )
        past = in_all(told["history_rows"], *watched, told["shown_rows"])
        return of_queries(past), of_candidates(
            *(items, channels, tags, told["item_counts"], told["channel_counts"]),
            *(told["item_rows"], told["item_age_days"], told["duration_s"], told["position"]),
            *(told["source_scores"], self._likings(told, order, starts)),
        )

    def levels(self, inputs: Raw) -> tuple[Floats, Floats]:
        """[R, ·] and [M, ·] of requests and of candidates, made comparable."""
        of_queries, of_candidates = self.raw(inputs)
        beside = {"powers": self.powers, "logs": self.logs}
        return (
            self.queries.levels(of_queries, **beside),
            self.candidates.levels(of_candidates, **beside),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """By name, for a release."""
        arrays = {"beside": np.array([self.powers, self.logs])}
        for name in ("queries", "candidates"):
            arrays |= {f"{name}.{key}": value for key, value in vars(getattr(self, name)).items()}
        if self.manners is not None:
            arrays |= {f"manners.{key}": value for key, value in vars(self.manners).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `to_arrays`."""

        def part(name: str, of: type[Scale] | type[Manners]) -> Any:
            told = {field.name: arrays[f"{name}.{field.name}"] for field in fields(of)}
            return of(**told)

        powers, logs = arrays["beside"].tolist()
        return cls(
            queries=part("queries", Scale),
            candidates=part("candidates", Scale),
            manners=part("manners", Manners) if "manners.vectors" in arrays else None,
            powers=powers,
            logs=logs,
        )

    def _likings(
        self, told: "_Told", order: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> Floats:
        manners = self.manners
        if manners is None:
            return np.zeros((len(told["item_rows"]), 0), np.float32)
        return likings(
            *(told["shown_channel_rows"], told["shown_tag_rows"], told["shown_age_s"]),
            *(told["history_rows"], told["history_channel_rows"], told["history_tag_rows"]),
            *(told["history_age_s"], order, starts),
            *(told["channel_rows"], told["tag_rows"]),
            *(manners.log_odds, manners.vectors, manners.moments, manners.precision),
            *(float(manners.tag_precision[0]), int(manners.num_tags[0])),
        )


class _Told:
    """Arrays by name, each lying as what is compiled wants it."""

    def __init__(self, inputs: Raw) -> None:
        self._inputs = inputs

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.ascontiguousarray(self._inputs[name])


def watch_share(inputs: Raw) -> Floats:
    """[R, H]: share of each past item that was watched, up to 1; 1 where no duration is known."""
    duration_s, watched_s = inputs["history_duration_s"], inputs["history_watch_time_s"]
    share = np.minimum(watched_s / np.maximum(duration_s, np.float32(1)), np.float32(1))
    return np.where(duration_s > 0, share, np.float32(1))
