"""What declared features say of an item, learned beside its own vector, so that new items have one.

    item vector = the item's own vector + Σ of its features' vectors

Source: features beside ids: Covington, Adams, Sargin 2016, section 3.3; training now and then
without the ids, so that features learn to stand alone: Volkovs, Yu, Poutanen 2017, "DropoutNet".
"""

import torch
from torch import nn

from upnext.examples.item_features import ItemFeatures
from upnext.schema import Floats
from upnext.training.group import ALONE, Group
from upnext.training.tables import new_table


class SideFeatures(nn.Module):
    """The sum that `examples.item_features.side_vectors` takes, to be learned.

    A vector for each value of a category or list, and one for each level of a number. What is
    known of the N items lies in buffers, which are no part of the state.
    """

    value_rows: torch.Tensor
    value_weights: torch.Tensor
    levels: torch.Tensor

    def __init__(
        self,
        features: ItemFeatures,
        vector_size: int,
        *,
        is_sparse: bool = False,
        group: Group = ALONE,
    ) -> None:
        super().__init__()
        for name, array in (
            ("value_rows", features.value_rows),
            ("value_weights", features.value_weights()),
            ("levels", features.levels),
        ):
            self.register_buffer(name, torch.tensor(array), persistent=False)
        num_sums = len(features.categories) + len(features.lists)
        self.value_table = new_table(
            features.num_values, vector_size, is_sparse=is_sparse, group=group
        )
        with torch.no_grad():  # the sum begins about as long as the item's own vector
            self.value_table.weight.mul_(max(1, num_sums) ** -0.5)
        self.level_vectors = nn.Parameter(torch.zeros(features.levels.shape[1], vector_size))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Item rows [R] → [R, D]; the vector of a reserved row is zero."""
        from_levels = self.levels[rows] @ self.level_vectors
        value_rows, table = self.value_rows[rows], self.value_table.weight
        if not value_rows.shape[1]:  # which an embedding bag cannot be empty of
            return from_levels
        if self.value_table.is_sparse:
            distinct, value_rows = torch.unique(value_rows, return_inverse=True)
            table = self.value_table(distinct)
        from_values: torch.Tensor = nn.functional.embedding_bag(
            value_rows, table, per_sample_weights=self.value_weights[rows], mode="sum"
        )
        return from_values + from_levels


def side_arrays(side: SideFeatures) -> dict[str, Floats]:
    """The tables that `examples.item_features.side_vectors` takes, for a release."""
    return {
        "values": side.value_table.weight.detach().cpu().numpy(),
        "levels": side.level_vectors.detach().cpu().numpy(),
    }
