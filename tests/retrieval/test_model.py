from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from upnext.errors import ConfigError
from upnext.retrieval.model import (
    WIDTH_UNIT,
    InputSizes,
    RetrievalModel,
    RetrievalNetworkConfig,
    Tower,
)

NUM_ROWS = 7
SIZES = InputSizes(
    num_items=NUM_ROWS,
    num_search_tokens=5,
    context_sizes=(4, 2),
    num_context_values=3,
    watch_windows=(1, 6),
    longest_age_days=10.0,
)


def new_tower(config: RetrievalNetworkConfig, *, longest_age_days: float = 10.0) -> Tower:
    torch.manual_seed(3)
    return Tower(config, replace(SIZES, longest_age_days=longest_age_days))


def tower_inputs(config: RetrievalNetworkConfig) -> list[torch.Tensor]:
    """Two moments; example age is the last input."""
    generator = torch.Generator().manual_seed(4)
    return [
        torch.randn(2, 2 * config.embedding_size, generator=generator),
        torch.randn(2, config.search_embedding_size, generator=generator),
        torch.tensor([[3, 0], [1, 1]]),
        torch.rand(2, 3, generator=generator),
        torch.tensor([0.0, 2.5]),
    ]


SMALL = RetrievalNetworkConfig(
    vector_size=4,
    embedding_size=4,
    search_embedding_size=2,
    context_embedding_size=2,
    hidden_sizes=(8,),
    linear_path=False,
)
LINEAR = replace(SMALL, hidden_sizes=())


def test_without_hidden_layers_the_tower_is_one_matrix_on_its_inputs_in_order() -> None:
    """And on zeros, with which they are filled up."""
    tower, inputs = new_tower(LINEAR), tower_inputs(LINEAR)
    (layer,) = tower.layers
    assert isinstance(layer, nn.Linear)
    watches, searches, context_rows, values, age_days = inputs
    share = age_days[:, None] / 10.0
    contexts = [table(context_rows[:, place]) for place, table in enumerate(tower.contexts)]
    together = torch.cat([watches, searches, *contexts, values, share, share.sqrt()], dim=1)
    expected = layer(nn.functional.pad(together, (0, layer.in_features - together.shape[1])))
    torch.testing.assert_close(tower(*inputs), expected)
    assert layer.in_features % WIDTH_UNIT == 0


def test_example_age_matters_only_where_it_is_an_input() -> None:
    for config, matters in ((SMALL, True), (replace(SMALL, example_age="none"), False)):
        tower, inputs = new_tower(config), tower_inputs(config)
        before = tower(*inputs)
        inputs[-1] = torch.tensor([7.0, 2.5])
        after = tower(*inputs)
        assert torch.equal(before[0], after[0]) is not matters
        assert torch.equal(before[1], after[1])


def test_an_age_below_zero_is_the_other_side_of_zero() -> None:
    """What a linear tower adds for an age, it takes away for its opposite."""
    tower, inputs = new_tower(LINEAR), tower_inputs(LINEAR)

    def at_age(days: float) -> torch.Tensor:
        vectors: torch.Tensor = tower(*inputs[:-1], torch.full((2,), days))
        return vectors

    torch.testing.assert_close(at_age(0.0) - at_age(-0.5), at_age(0.5) - at_age(0.0))
    assert not torch.equal(at_age(-0.5), at_age(0.0))


def test_logs_of_one_moment_have_no_age_and_break_nothing() -> None:
    tower, inputs = new_tower(SMALL, longest_age_days=0.0), tower_inputs(SMALL)
    inputs[-1] = torch.zeros(2)
    assert tower(*inputs).isfinite().all()


def test_the_activation_of_the_user_vector_leaves_nothing_negative() -> None:
    inputs = tower_inputs(SMALL)
    assert (new_tower(SMALL)(*inputs) < 0).any()
    activated = replace(SMALL, user_vector_activation=True)
    assert (new_tower(activated)(*inputs) >= 0).all()


def test_the_linear_path_is_added_to_the_tower() -> None:
    with_path = replace(SMALL, linear_path=True)
    tower, inputs = new_tower(with_path), tower_inputs(with_path)
    plain = new_tower(SMALL)
    plain.load_state_dict(tower.state_dict(), strict=False)
    assert tower.linear_path is not None
    expected = plain(*inputs) + inputs[0] @ tower.linear_path.weight.T
    torch.testing.assert_close(tower(*inputs), expected)


def new_model(config: RetrievalNetworkConfig) -> RetrievalModel:
    torch.manual_seed(5)
    return RetrievalModel(config, SIZES)


EVERY_ITEM = torch.arange(2, NUM_ROWS)


def test_item_vectors_are_a_table_of_their_own_unless_tied() -> None:
    model = new_model(SMALL)
    assert not torch.equal(model.item_vectors(EVERY_ITEM), model.watch_vectors(EVERY_ITEM))
    tied = new_model(replace(SMALL, tied=True, linear_path=True))
    assert torch.equal(tied.item_vectors(EVERY_ITEM), tied.watch_vectors(EVERY_ITEM))
    means = torch.randn(3, 8)
    assert tied.tower.linear_path is not None
    torch.testing.assert_close(tied.tower.linear_path(means), means[:, :4] + means[:, 4:])


def test_normalised_vectors_have_length_1_and_scores_are_cosines_over_temperature() -> None:
    config = replace(SMALL, normalised=True, temperature=0.1)
    model = new_model(config)
    items, users = model.item_vectors(EVERY_ITEM), model.tower(*tower_inputs(config))
    torch.testing.assert_close(items.norm(dim=1), torch.ones(NUM_ROWS - 2))
    torch.testing.assert_close(users.norm(dim=1), torch.full((2,), 10.0))
    cosines = nn.functional.cosine_similarity(users[:, None], items, dim=2)
    torch.testing.assert_close(users @ items.T, cosines / 0.1)


def test_temperature_divides_scores() -> None:
    inputs = tower_inputs(SMALL)
    cool = new_tower(replace(SMALL, temperature=0.25))
    torch.testing.assert_close(cool(*inputs), new_tower(SMALL)(*inputs) / 0.25)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_hidden_layers_apply_the_activation(activation: Literal["relu", "silu"]) -> None:
    config = replace(SMALL, activation=activation, example_age="none")
    tower, inputs = new_tower(config), tower_inputs(config)
    first, _, last = tower.layers
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    watches, searches, context_rows, values, _ = inputs
    contexts = [table(context_rows[:, place]) for place, table in enumerate(tower.contexts)]
    together = torch.cat([watches, searches, *contexts, values], dim=1)
    hidden = first(nn.functional.pad(together, (0, first.in_features - together.shape[1])))
    activated = hidden.clamp(min=0) if activation == "relu" else hidden * hidden.sigmoid()
    torch.testing.assert_close(tower(*inputs), last(activated))


def test_reserved_rows_begin_as_zeros() -> None:
    model = new_model(SMALL)
    for table in (model.watch_table, model.search_table, model.item_table):
        assert not table.weight[:2].any()
        assert table.weight[2:].all()


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="dropout: expected 0 or more, below 1, got 1"):
        RetrievalNetworkConfig(dropout=1.0)
    with pytest.raises(ConfigError, match="tied: expected embedding_size and vector_size alike"):
        RetrievalNetworkConfig(tied=True, embedding_size=8, vector_size=4)
