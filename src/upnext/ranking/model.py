"""Stage 2 as a whole: features, the vectors of items, and the network from these to seconds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from upnext.examples.encoder import Encoder
from upnext.examples.history import Indices
from upnext.examples.ranking_inputs import RANKING_INPUTS, RankingInputs
from upnext.features.features import CANDIDATE_LEVELS, QUERY_LEVELS, RankingFeatures
from upnext.features.liking import Manners
from upnext.ranking.calibration import Calibration
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.din import DinNetwork
from upnext.ranking.front import Front, Inputs, Sizes
from upnext.ranking.items import ItemVectors
from upnext.ranking.mlp import MlpNetwork
from upnext.ranking.objectives import new_objective
from upnext.ranking.pooling import pooled
from upnext.ranking.wide_and_deep import WideAndDeepNetwork
from upnext.schema import NUM_RESERVED_ROWS, Rows
from upnext.training.group import ALONE, Group

Network = MlpNetwork | WideAndDeepNetwork | DinNetwork
"""Each takes `Parts` and gives outputs; `reads` names the inputs that it wants beside them."""
ROWS_WITHOUT_CHOICE = 20_000
"""Up to so many items, a step makes the vectors of all, which is quicker than to choose."""


def new_network(
    config: RankingNetworkConfig, front: Front, sizes: Sizes, encoder: Encoder, num_outputs: int
) -> Network:
    """The network that a config names."""
    widths = {
        "query_size": front.query_size,
        "candidate_size": front.candidate_size,
        "num_outputs": num_outputs,
    }
    match config.kind:
        case "mlp":
            return MlpNetwork(config, **widths)
        case "wide-and-deep":
            return WideAndDeepNetwork(config, encoder.context_names, **widths)
        case "din":
            return DinNetwork(config, sizes, **widths)


def new_features(
    encoder: Encoder, config: RankingNetworkConfig, num_sources: int
) -> RankingFeatures:
    """The features that a config wants, of which nothing is known yet."""
    manners = None
    if config.manner_size:
        manners = Manners.unlearned(
            config.manner_size,
            num_channels=encoder.catalogue.channels.num_rows,
            num_tags=encoder.catalogue.tags.num_rows,
        )
    return RankingFeatures.unfitted(
        num_sources=num_sources, manners=manners, powers=config.powers, logs=config.logs
    )


class ScoringNetwork(nn.Module):
    """`Inputs` → expected watch time [M], in seconds; what is exported."""

    def __init__(
        self, config: RankingConfig, encoder: Encoder, sizes: Sizes, num_outputs: int
    ) -> None:
        super().__init__()
        self.front = Front(config.network, sizes)
        self.network = new_network(config.network, self.front, sizes, encoder, num_outputs)
        self.objective = new_objective(config)
        self.calibration = Calibration()

    def outputs(self, inputs: Inputs) -> torch.Tensor:
        """[M, O] what the objective takes."""
        outputs: torch.Tensor = self.network(self.front(inputs))
        return outputs

    def uncalibrated(self, inputs: Inputs) -> torch.Tensor:
        """[M] seconds as the objective has them."""
        return self.objective.seconds(self.outputs(inputs).float(), inputs["duration_s"])

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """[M] seconds per impression."""
        seconds: torch.Tensor = self.calibration(self.uncalibrated(inputs))
        return seconds


class RankingModel(nn.Module):
    """Features and vectors of items, and the network that they feed.

    Features have no weights, and are no part of the model's state: they are fitted before the first
    step of a training, and anew where it goes on.
    """

    features: RankingFeatures

    def __init__(
        self,
        encoder: Encoder,
        config: RankingConfig,
        *,
        num_sources: int,
        num_outputs: int,
        is_sparse: bool = False,
        group: Group = ALONE,
    ) -> None:
        super().__init__()
        self.features = new_features(encoder, config.network, num_sources)
        self.items = ItemVectors(encoder, config.network, is_sparse=is_sparse, group=group)
        query_levels, candidate_levels = self.features.widths
        sizes = Sizes(
            item_vector=self.items.size,
            contexts=encoder.context_sizes,
            query_levels=query_levels,
            candidate_levels=candidate_levels,
        )
        self.scoring = ScoringNetwork(config, encoder, sizes, num_outputs)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def inputs(
        self, raw: RankingInputs, levels: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """All inputs of the network.

        Args:
            levels: those of the features, where they were worked out before.
        """
        reads = {"context_rows", "request_index", "duration_s", *self.scoring.network.reads}
        arrays = {name: self._tensor(raw[name]) for name in RANKING_INPUTS if name in reads}
        if levels is None:
            both = zip((QUERY_LEVELS, CANDIDATE_LEVELS), self.features.levels(raw), strict=True)
            levels = {name: self._tensor(array) for name, array in both}
        return arrays | self.vectors(raw) | dict(levels)

    def vectors(self, raw: RankingInputs) -> dict[str, torch.Tensor]:
        """The vectors of candidates, and those of the past, pooled; for DIN one by one, too."""
        rows, (candidates, watched, shown) = self._few(
            raw.item_rows, raw.history_rows, raw.shown_rows
        )
        vectors = self.items(self._tensor(rows))
        found = {
            "item_vectors": vectors.index_select(0, self._tensor(candidates)),
            "history_pooled": pooled(vectors, watched),
            "shown_pooled": pooled(vectors, shown),
        }
        if "history_vectors" in self.scoring.network.reads:
            found["history_vectors"] = nn.functional.embedding(self._tensor(watched), vectors)
        return found

    def forward(self, raw: RankingInputs) -> torch.Tensor:
        """Expected watch time [M], in seconds."""
        seconds: torch.Tensor = self.scoring(self.inputs(raw))
        return seconds

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _few(self, *arrays: Rows) -> tuple[Indices, list[Rows]]:
        """The distinct rows, 0 and 1 first, and where each of the given ones is among them."""
        num_rows = len(self.items.channel_rows)
        if num_rows <= ROWS_WITHOUT_CHOICE:
            return np.arange(num_rows), list(arrays)
        occurs = np.zeros(num_rows, bool)
        occurs[:NUM_RESERVED_ROWS] = True
        for array in arrays:
            occurs[array] = True
        rows = np.flatnonzero(occurs)
        place = np.zeros(num_rows, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        return rows, [place[array] for array in arrays]
