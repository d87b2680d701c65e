"""The vector of an item: what stands for it as a candidate, in the past, and among the shown."""

import torch
from torch import nn

from upnext.examples.encoder import Encoder
from upnext.ranking.config import RankingNetworkConfig
from upnext.ranking.pooling import sums_of_lines
from upnext.schema import UNKNOWN_ROW, Floats
from upnext.training.group import ALONE, Group
from upnext.training.sharded import ShardedTable
from upnext.training.side_features import SideFeatures
from upnext.training.tables import EmbeddingTable, Table, new_table

START_DEVIATION = 0.1
ITEMS_AT_ONCE = 65_536


class ItemVectors(nn.Module):
    """Item rows [n] → vectors [n, E]: its own, its channel's, its tags' mean, its features'.

    One table an id space, its size proportional to the log of the space, shared by all uses;
    unknown ids have the zero vector. Source: Covington, Adams, Sargin 2016, section 4.1.
    """

    channel_rows: torch.Tensor
    tag_rows: torch.Tensor

    def __init__(
        self,
        encoder: Encoder,
        config: RankingNetworkConfig,
        *,
        is_sparse: bool = False,
        group: Group = ALONE,
    ) -> None:
        super().__init__()
        catalogue = encoder.catalogue
        for name in ("channel_rows", "tag_rows"):
            rows = torch.tensor(getattr(catalogue, name), dtype=torch.int64)
            self.register_buffer(name, rows, persistent=False)
        spaces = {"item": catalogue.items, "channel": catalogue.channels, "tag": catalogue.tags}
        self.tables = nn.ModuleDict(
            {
                name: new_table(
                    space.num_rows,
                    config.embedding_size(space.num_rows),
                    is_sparse=is_sparse and name == "item",
                    group=group,
                    deviation=START_DEVIATION,
                )
                for name, space in spaces.items()
            }
        )
        self.side: SideFeatures | None = None
        if encoder.item_features.names:
            size = config.embedding_size(encoder.item_features.num_values)
            self.side = SideFeatures(encoder.item_features, size)

    @property
    def size(self) -> int:
        """E."""
        of_side = self.side.level_vectors.shape[1] if self.side is not None else 0
        return sum(self._table(name).weight.shape[1] for name in self.tables) + of_side

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The vectors of rows [n]; zero for the reserved rows."""
        parts = [
            self._known("item", rows),
            self._known("channel", self.channel_rows[rows]),
            self._mean_of_tags(rows),
        ]
        if self.side is not None:
            parts.append(self.side(rows))
        return torch.cat(parts, dim=1)

    def every_vector(self) -> Floats:
        """[N, E] of the whole catalogue, for a release."""
        num_rows = len(self.channel_rows)
        everything = torch.arange(num_rows, device=self.channel_rows.device)
        with torch.inference_mode():
            parts = [self(rows) for rows in torch.split(everything, ITEMS_AT_ONCE)]
            vectors: Floats = torch.cat(parts).cpu().numpy()
        return vectors

    def _table(self, name: str) -> Table:
        table = self.tables[name]
        assert isinstance(table, EmbeddingTable | ShardedTable)
        return table

    def _known(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        table = self._table(name)
        # The gradient of index_select is added up many times quicker than that of an embedding.
        vectors = table(rows) if table.is_sparse else table.weight.index_select(0, rows)
        return vectors * (rows > UNKNOWN_ROW)[:, None]

    def _mean_of_tags(self, rows: torch.Tensor) -> torch.Tensor:
        tags = self.tag_rows[rows]
        num_known = (tags > UNKNOWN_ROW).sum(dim=1, keepdim=True).clamp(min=1)
        every_tag = torch.arange(self._table("tag").num_rows, device=rows.device)
        return sums_of_lines(self._known("tag", every_tag), tags.cpu().numpy()) / num_known
