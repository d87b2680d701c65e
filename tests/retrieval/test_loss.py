from collections.abc import Callable, Mapping
from math import exp, log
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, logsigmoid

from upnext.retrieval import sweep as room
from upnext.retrieval.loss import (
    full_softmax_loss,
    negative_sampling_loss,
    noise_contrastive_loss,
    sampled_softmax_loss,
)

Tensors = tuple[torch.Tensor, ...]
Objective = Callable[..., torch.Tensor]


# The formulas, word by word, for autograd.


def plain_logits(vectors: Tensors, rows: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """u · v_0 [B] and u · v_j [B, S], −inf for hits."""
    users, positives, negatives = vectors
    is_hit = rows["positive_rows"][:, None] == rows["negative_rows"]
    return (users * positives).sum(dim=1), (users @ negatives.T).masked_fill(is_hit, -torch.inf)


def plain_softmax(*vectors: torch.Tensor, **rows: Any) -> torch.Tensor:
    positive, logits = plain_logits(vectors, rows)
    if (of_positives := rows.get("positive_log_expected")) is not None:
        positive = positive - of_positives
    bracket = torch.cat([positive[:, None], logits - rows["negative_log_expected"]], dim=1)
    return (bracket.logsumexp(dim=1) - positive).mean()


def plain_noise_contrastive(*vectors: torch.Tensor, **rows: Any) -> torch.Tensor:
    positive, logits = plain_logits(vectors, rows)
    gap = positive - rows["positive_log_expected"]
    of_positive = logsigmoid(gap) + rows["positive_log_expected"].exp() * logsigmoid(-gap)
    of_draws = logsigmoid(rows["negative_log_expected"] - logits)
    loss: torch.Tensor = -(of_positive + of_draws.sum(dim=1)).mean()
    return loss


def plain_negative_sampling(*vectors: torch.Tensor, **rows: Any) -> torch.Tensor:
    positive, logits = plain_logits(vectors, rows)
    return -(logsigmoid(positive) + logsigmoid(-logits).sum(dim=1)).mean()


NO_CORRECTION = ("positive_rows", "negative_rows")
CORRECTED = (*NO_CORRECTION, "negative_log_expected")
BOTH_CORRECTED = (*CORRECTED, "positive_log_expected")
OBJECTIVES: dict[str, tuple[Objective, Objective, tuple[str, ...]]] = {
    "sampled softmax": (sampled_softmax_loss, plain_softmax, CORRECTED),
    "classic logQ": (sampled_softmax_loss, plain_softmax, BOTH_CORRECTED),
    "noise contrastive": (noise_contrastive_loss, plain_noise_contrastive, BOTH_CORRECTED),
    "negative sampling": (negative_sampling_loss, plain_negative_sampling, NO_CORRECTION),
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def random_inputs(
    name: str,
    num_examples: int,
    num_negatives: int,
    size: int,
    *,
    num_rows: int,
    seed: int,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensors, dict[str, Any]]:
    """Vectors, and rows few enough that many negatives are accidental hits."""
    generator = torch.Generator().manual_seed(seed)
    vectors = tuple(
        torch.randn(n, size, dtype=dtype, generator=generator).requires_grad_()
        for n in (num_examples, num_examples, num_negatives)
    )
    rows = {
        "positive_rows": torch.randint(num_rows, (num_examples,), generator=generator),
        "negative_rows": torch.randint(num_rows, (num_negatives,), generator=generator),
        "negative_log_expected": torch.randn(num_negatives, dtype=dtype, generator=generator),
        "positive_log_expected": torch.randn(num_examples, dtype=dtype, generator=generator),
    }
    return vectors, {key: rows[key] for key in OBJECTIVES[name][2]}


def assert_same(
    ours: torch.Tensor, plain: torch.Tensor, by: Tensors, *, upstream: float = 1.0
) -> None:
    """Value and gradients agree to 1e-10."""
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    for one, other in zip(
        torch.autograd.grad(upstream * ours, by),
        torch.autograd.grad(upstream * plain, by),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@every_objective
@settings(max_examples=25)
@given(
    num_examples=st.integers(1, 9),
    num_negatives=st.integers(1, 7),
    size=st.integers(1, 4),
    num_rows=st.integers(1, 6),
    chunk_logits=st.integers(1, 40),
    upstream=st.floats(-3, 3),
    seed=st.integers(0, 10_000),
)
def test_values_and_gradients_are_those_of_the_formula_whatever_the_chunk(
    name: str,
    num_examples: int,
    num_negatives: int,
    size: int,
    num_rows: int,
    chunk_logits: int,
    upstream: float,
    seed: int,
) -> None:
    vectors, rows = random_inputs(
        name, num_examples, num_negatives, size, num_rows=num_rows, seed=seed
    )
    loss, plain, _ = OBJECTIVES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "CHUNK_LOGITS", chunk_logits)
        ours = loss(*vectors, **rows)
    assert_same(ours, plain(*vectors, **rows), vectors, upstream=upstream)


@every_objective
def test_gradients_agree_with_finite_differences(name: str) -> None:
    vectors, rows = random_inputs(name, 4, 6, 3, num_rows=4, seed=1)
    assert torch.autograd.gradcheck(lambda *v: OBJECTIVES[name][0](*v, **rows), vectors)


@every_objective
def test_an_accidental_hit_has_probability_zero(name: str) -> None:
    (users, positives, negatives), rows = random_inputs(name, 5, 3, 2, num_rows=9, seed=2)
    loss = OBJECTIVES[name][0]
    rows["positive_rows"] = torch.full((5,), 4)
    rows["negative_rows"] = torch.tensor([7, 4, 8])
    before = loss(users, positives, negatives, **rows)
    (gradient,) = torch.autograd.grad(before, negatives)
    assert gradient[1].tolist() == [0.0, 0.0]
    assert (gradient[[0, 2]] != 0).all()

    with torch.no_grad():
        negatives[1] = 1e6 * users.sum(dim=0)
    assert loss(users, positives, negatives, **rows).item() == before.item()

    kept = {key: value[[0, 2]] for key, value in rows.items() if key.startswith("negative")}
    without = loss(users, positives, negatives[[0, 2]], **(rows | kept))
    torch.testing.assert_close(without, before, rtol=1e-12, atol=1e-12)


def test_nothing_is_learned_when_every_negative_is_a_hit() -> None:
    vectors, rows = random_inputs("sampled softmax", 4, 6, 3, num_rows=1, seed=3)
    loss = sampled_softmax_loss(*vectors, **rows)
    assert loss.item() == 0.0
    for gradient in torch.autograd.grad(loss, vectors):
        assert not gradient.any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("scale", [200.0, -200.0, 1e4])
@every_objective
def test_extreme_logits_stay_finite_and_right(name: str, scale: float, precision: str) -> None:
    vectors, rows = random_inputs(name, 8, 6, 1, num_rows=40, seed=4, dtype=torch.float32)
    with torch.no_grad():
        for tensor, sign in zip(vectors, (1.0, 1.0, -1.0), strict=True):
            tensor.copy_(sign * tensor.sign())
        vectors[0].mul_(scale)
    loss, plain, _ = OBJECTIVES[name]
    ours = loss(*vectors, **rows, precision=precision)
    tolerance = 1e-5 if precision == "float32" else 2**-8
    torch.testing.assert_close(ours, plain(*vectors, **rows), rtol=tolerance, atol=1e-3)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(ours, vectors))


@every_objective
def test_bfloat16_is_float32_but_for_its_rounding(name: str) -> None:
    vectors, rows = random_inputs(name, 600, 700, 16, num_rows=3_000, seed=5, dtype=torch.float32)
    with torch.no_grad():
        vectors[0].mul_(0.5)
    loss = OBJECTIVES[name][0]
    exact, rough = (loss(*vectors, **rows, precision=p) for p in ("float32", "bfloat16"))
    assert rough.item() == pytest.approx(exact.item(), rel=1e-3)
    for one, other in zip(
        torch.autograd.grad(rough, vectors), torch.autograd.grad(exact, vectors), strict=True
    ):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 2**-7 * other.norm()


def test_bfloat16_adds_up_before_it_rounds() -> None:
    """Score, correction and shift are none of them small, and neither is a whole bfloat16: 64 +
    36.3 − 100.3 = 0, so that each of three draws is as likely as the positive."""
    loss = sampled_softmax_loss(
        torch.ones(1, 1),
        torch.tensor([[100.3]]),
        torch.full((3, 1), 64.0),
        positive_rows=torch.tensor([2]),
        negative_rows=torch.tensor([3, 4, 5]),
        negative_log_expected=torch.full((3,), -36.3),
        precision="bfloat16",
    )
    assert loss.item() == pytest.approx(log(4), abs=1e-3)


def test_logistic_costs_keep_the_digits_of_float64() -> None:
    """log(1 + e^21) is 21 + e^−21, of which softplus's usual threshold would leave 21."""
    one = torch.ones(1, 1, dtype=torch.float64)
    loss = negative_sampling_loss(
        one, 21 * one, 21 * one, positive_rows=torch.tensor([2]), negative_rows=torch.tensor([3])
    )
    assert loss.item() - 21 == pytest.approx(2 * exp(-21), rel=1e-4)


def test_full_softmax_is_cross_entropy() -> None:
    (users, _, items), rows = random_inputs("sampled softmax", 8, 11, 4, num_rows=11, seed=6)
    ours = full_softmax_loss(users, items, positive_rows=rows["positive_rows"])
    assert_same(ours, cross_entropy(users @ items.T, rows["positive_rows"]), (users, items))


def test_a_catalogue_larger_than_a_chunk_is_never_held_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (users, _, items), rows = random_inputs("sampled softmax", 30, 500, 4, num_rows=500, seed=7)
    sizes = []
    product = torch.mm

    def watched_product(*operands: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        sizes.append(out.numel())
        return product(*operands, out=out)

    monkeypatch.setattr(room, "CHUNK_LOGITS", 100)
    monkeypatch.setattr(torch, "mm", watched_product)
    ours = full_softmax_loss(users, items, positive_rows=rows["positive_rows"])
    assert max(sizes) <= 100
    assert_same(ours, cross_entropy(users @ items.T, rows["positive_rows"]), (users, items))


@pytest.mark.parametrize("wrong", [0, 1, 2])
@every_objective
def test_vectors_of_different_sizes_are_refused(name: str, wrong: int) -> None:
    vectors, rows = random_inputs(name, 3, 5, 4, num_rows=9, seed=8)
    mixed = [*vectors]
    mixed[wrong] = torch.zeros(len(mixed[wrong]), 6)
    with pytest.raises(ValueError, match=r"\[4, 6\]"):
        OBJECTIVES[name][0](*mixed, **rows)


def test_the_positive_without_a_correction_is_the_corrected_log_q() -> None:
    """LAW: −sg(1 − P_0) · log( e^{s_0} / Σ_j e^{s_j} ), negatives alone below, has our gradient."""
    vectors, rows = random_inputs("sampled softmax", 6, 9, 3, num_rows=7, seed=9)
    positive, logits = plain_logits(vectors, rows)
    of_negatives = (logits - rows["negative_log_expected"]).logsumexp(dim=1)
    doubt = (of_negatives - positive).sigmoid().detach()
    corrected = -(doubt * (positive - of_negatives)).mean()
    ours = sampled_softmax_loss(*vectors, **rows)
    for one, other in zip(
        torch.autograd.grad(ours, vectors), torch.autograd.grad(corrected, vectors), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
