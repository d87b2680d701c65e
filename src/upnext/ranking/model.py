"""Embedding tables around a ranking network: ids of raw arrays become vectors, vectors logits."""

import numpy as np
import torch
from torch import nn

from upnext.examples.encoder import Encoder
from upnext.examples.impressions import EMBEDDED_ROWS, RankingInputs
from upnext.ranking.mlp import MlpNetwork, RankingNetworkConfig
from upnext.schema import UNKNOWN_ROW


class RankingModel(nn.Module):
    """Embedding tables and the network that they feed; unknown ids have the zero vector."""

    def __init__(self, encoder: Encoder, config: RankingNetworkConfig) -> None:
        super().__init__()
        catalogue = encoder.catalogue
        spaces = {
            "item": catalogue.items.num_rows,
            "channel": catalogue.channels.num_rows,
            "tag": catalogue.tags.num_rows,
        }
        sizes = {name: config.embedding_size(num_rows) for name, num_rows in spaces.items()}
        self.tables = nn.ModuleDict(
            {name: _zero_padded_table(spaces[name], sizes[name]) for name in spaces}
        )
        self.network = MlpNetwork(
            config,
            item_size=sizes["item"],
            channel_size=sizes["channel"],
            tag_size=sizes["tag"],
            context_sizes=encoder.context_sizes,
        )

    def inputs(self, raw: RankingInputs) -> dict[str, torch.Tensor]:
        """The network's inputs: the raw arrays, and the vectors of the ids in them."""
        device = next(self.parameters()).device
        inputs = {
            name: torch.from_numpy(np.ascontiguousarray(array)).to(device)
            for name, array in raw.arrays().items()
        }
        for name, (table, rows_name) in EMBEDDED_ROWS.items():
            rows = inputs[rows_name]
            known = (rows > UNKNOWN_ROW)[..., None]
            inputs[name] = self.tables[table](rows) * known
        return inputs

    def forward(self, raw: RankingInputs) -> torch.Tensor:
        """Logits [M]."""
        logits: torch.Tensor = self.network(self.inputs(raw))
        return logits


def _zero_padded_table(num_rows: int, size: int) -> nn.Embedding:
    table = nn.Embedding(num_rows, size)
    nn.init.normal_(table.weight, std=0.05)
    with torch.no_grad():
        table.weight[: UNKNOWN_ROW + 1] = 0.0
    return table
