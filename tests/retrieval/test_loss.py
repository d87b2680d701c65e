from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.retrieval import loss as room
from upnext.retrieval.loss import full_softmax_loss, sampled_softmax_loss
from upnext.retrieval.sampling import NegativeSampler, SamplerName, negative_sampler

Tensors = tuple[torch.Tensor, ...]
SAMPLERS = get_args(SamplerName)
NUM_ITEMS = 40


def random_inputs(
    num_examples: int, num_negatives: int, size: int, *, num_rows: int, seed: int
) -> tuple[Tensors, dict[str, torch.Tensor]]:
    """Vectors in float64, and rows few enough that many negatives are accidental hits."""
    generator = torch.Generator().manual_seed(seed)
    vectors = tuple(
        torch.randn(n, size, dtype=torch.float64, generator=generator).requires_grad_()
        for n in (num_examples, num_examples, num_negatives)
    )
    rows = {
        "positive_rows": torch.randint(num_rows, (num_examples,), generator=generator),
        "negative_rows": torch.randint(num_rows, (num_negatives,), generator=generator),
        "negative_log_q": torch.randn(num_negatives, dtype=torch.float64, generator=generator),
    }
    return vectors, rows


def plain_loss(
    users: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    *,
    positive_rows: torch.Tensor,
    negative_rows: torch.Tensor,
    negative_log_q: torch.Tensor,
) -> torch.Tensor:
    """The formula, word by word, for autograd."""
    positive_logit = (users * positives).sum(dim=1)
    is_hit = positive_rows[:, None] == negative_rows
    logits = (users @ negatives.T - negative_log_q).masked_fill(is_hit, -torch.inf)
    bracket = torch.cat([positive_logit[:, None], logits], dim=1)
    return (bracket.logsumexp(dim=1) - positive_logit).mean()


def gradients(loss: torch.Tensor, vectors: Tensors, upstream: float) -> Tensors:
    return torch.autograd.grad(upstream * loss, vectors)


@settings(max_examples=60)
@given(
    num_examples=st.integers(1, 9),
    num_negatives=st.integers(1, 7),
    size=st.integers(1, 4),
    num_rows=st.integers(1, 6),
    chunk_logits=st.integers(1, 30),
    upstream=st.floats(-3, 3),
    seed=st.integers(0, 10_000),
)
def test_values_and_gradients_are_those_of_the_formula(
    num_examples: int,
    num_negatives: int,
    size: int,
    num_rows: int,
    chunk_logits: int,
    upstream: float,
    seed: int,
) -> None:
    vectors, rows = random_inputs(num_examples, num_negatives, size, num_rows=num_rows, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "CHUNK_LOGITS", chunk_logits)
        loss = sampled_softmax_loss(*vectors, **rows)
    expected = plain_loss(*vectors, **rows)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(
        gradients(loss, vectors, upstream), gradients(expected, vectors, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_agree_with_finite_differences() -> None:
    vectors, rows = random_inputs(4, 6, 3, num_rows=4, seed=1)
    loss: Callable[..., torch.Tensor] = lambda *v: sampled_softmax_loss(*v, **rows)  # noqa: E731
    assert torch.autograd.gradcheck(loss, vectors)


def test_an_accidental_hit_has_probability_zero() -> None:
    (users, positives, negatives), rows = random_inputs(5, 3, 2, num_rows=9, seed=2)
    rows["positive_rows"] = torch.full((5,), 4)
    rows["negative_rows"] = torch.tensor([7, 4, 8])
    loss = sampled_softmax_loss(users, positives, negatives, **rows)
    (gradient,) = torch.autograd.grad(loss, negatives)
    assert gradient[1].tolist() == [0.0, 0.0]
    assert (gradient[[0, 2]] != 0).all()

    with torch.no_grad():
        negatives[1] = 1e6 * users.sum(dim=0)
    moved = sampled_softmax_loss(users, positives, negatives, **rows)
    assert moved.item() == loss.item()

    kept = {name: value[[0, 2]] for name, value in rows.items() if name.startswith("negative")}
    without = sampled_softmax_loss(
        users, positives, negatives[[0, 2]], positive_rows=rows["positive_rows"], **kept
    )
    torch.testing.assert_close(without, loss, rtol=1e-12, atol=1e-12)


def test_nothing_is_learned_when_every_negative_is_a_hit() -> None:
    vectors, rows = random_inputs(4, 6, 3, num_rows=1, seed=3)
    loss = sampled_softmax_loss(*vectors, **rows)
    assert loss.item() == 0.0
    for gradient in gradients(loss, vectors, 1.0):
        assert not gradient.any()


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    users = torch.tensor([[scale], [-scale], [0.0]], requires_grad=True)
    vectors = (users, torch.ones(3, 1, requires_grad=True), -torch.ones(2, 1, requires_grad=True))
    loss = sampled_softmax_loss(
        *vectors,
        positive_rows=torch.tensor([2, 3, 4]),
        negative_rows=torch.tensor([5, 4]),
        negative_log_q=torch.zeros(2),
    )
    # One user is sure and right: 0. One is sure and wrong, of both negatives alike: 2e4 + log 2.
    # The last one knows nothing, and one of its negatives is a hit: log 2.
    assert loss.item() == pytest.approx((2e4 + 2 * np.log(2)) / 3, rel=1e-6)
    assert all(gradient.isfinite().all() for gradient in gradients(loss, vectors, 1.0))


def test_full_softmax_is_cross_entropy() -> None:
    (users, _, items), rows = random_inputs(8, 11, 4, num_rows=11, seed=4)
    loss = full_softmax_loss(users, items, positive_rows=rows["positive_rows"])
    expected = torch.nn.functional.cross_entropy(users @ items.T, rows["positive_rows"])
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        gradients(loss, (users, items), 0.5), gradients(expected, (users, items), 0.5), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_vectors_of_different_sizes_are_refused(wrong: int) -> None:
    vectors = [torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(5, 4)]
    vectors[wrong] = torch.zeros(len(vectors[wrong]), 6)
    with pytest.raises(ValueError, match=r"\[4, 6\]"):
        sampled_softmax_loss(
            *vectors,
            positive_rows=torch.zeros(3, dtype=torch.int64),
            negative_rows=torch.ones(5, dtype=torch.int64),
            negative_log_q=torch.zeros(5),
        )


def catalogue_and_sampler(name: SamplerName) -> tuple[Tensors, NegativeSampler]:
    """One user, the item vectors of a catalogue [N, D], and a sampler over its real rows."""
    generator = torch.Generator().manual_seed(5)
    user = torch.randn(1, 4, dtype=torch.float64, generator=generator)
    items = torch.randn(NUM_ITEMS + 2, 4, dtype=torch.float64, generator=generator)
    num_watches = np.concatenate([[0, 0], 200 // np.arange(1, NUM_ITEMS + 1)])
    return (user, items), negative_sampler(name, num_watches=num_watches, power=0.75)


def assert_expectation(values: torch.Tensor, expected: torch.Tensor) -> None:
    """The mean of many independent values lies within 4 standard errors, and those are small."""
    standard_error = values.std() / len(values) ** 0.5
    assert standard_error < 0.02 * expected
    assert (values.mean() - expected).abs() < 4 * standard_error


@pytest.mark.parametrize("name", SAMPLERS)
def test_corrected_draws_add_up_to_the_whole_catalogue(name: SamplerName) -> None:
    """LAW: E Σ_j exp(s_j − log Q_j) over draws = Σ_i exp(s_i) over the catalogue."""
    (user, items), sampler = catalogue_and_sampler(name)
    scores = (items @ user.T)[:, 0]
    generator = torch.Generator().manual_seed(6)
    draws = [sampler.draw(50, generator) for _ in range(600)]
    sums = torch.stack([(scores[rows] - log_q).exp().sum() for rows, log_q in draws])
    assert_expectation(sums, scores[2:].exp().sum())


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_bracket_is_expected_to_be_the_partition_sum(name: SamplerName) -> None:
    """LAW: with hits removed and the positive given, E(bracket) is the full softmax's Σ_i e^s_i."""
    (user, items), sampler = catalogue_and_sampler(name)
    scores = (items @ user.T)[:, 0]
    generator = torch.Generator().manual_seed(7)
    positive = torch.tensor([3])
    brackets = []
    for _ in range(600):
        rows, log_q = sampler.draw(50, generator)
        loss = sampled_softmax_loss(
            user,
            items[positive],
            items[rows],
            positive_rows=positive,
            negative_rows=rows,
            negative_log_q=log_q.double(),
        )
        brackets.append((loss + scores[positive[0]]).exp())
    assert_expectation(torch.stack(brackets), scores[2:].exp().sum())


@pytest.mark.parametrize("name", SAMPLERS)
def test_more_negatives_come_nearer_to_the_full_softmax(name: SamplerName) -> None:
    (_, items), sampler = catalogue_and_sampler(name)
    generator = torch.Generator().manual_seed(8)
    users = torch.randn(32, 4, dtype=torch.float64, generator=generator)
    positive = torch.randint(2, NUM_ITEMS + 2, (32,), generator=generator)
    truth = full_softmax_loss(users, items[2:], positive_rows=positive - 2)

    def error(num_negatives: int) -> float:
        """Root mean square difference to the full softmax over some draws."""
        squares = []
        for _ in range(12):
            rows, log_q = sampler.draw(num_negatives, generator)
            loss = sampled_softmax_loss(
                users,
                items[positive],
                items[rows],
                positive_rows=positive,
                negative_rows=rows,
                negative_log_q=log_q.double(),
            )
            squares.append((loss - truth) ** 2)
        return float(torch.stack(squares).mean().sqrt())

    errors = [error(num_negatives) for num_negatives in (10, 250, 6_250)]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2
    assert errors[2] < 0.02
