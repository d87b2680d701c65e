"""What draws of negatives make of an objective, on average and at its optimum."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from upnext.retrieval.loss import (
    full_softmax_loss,
    negative_sampling_loss,
    noise_contrastive_loss,
    sampled_softmax_loss,
)
from upnext.retrieval.sampling import Sampler, SamplerName, negative_sampler

Tensors = tuple[torch.Tensor, ...]
Draw = dict[str, Any]
NUM_WATCHES = np.array([0, 0, 30, 20, 12, 9, 6, 5, 4, 2])
POSITIVE = torch.tensor([3])
ITEM_ROWS = torch.arange(2, len(NUM_WATCHES))
EXACT = 1e-12
USER = torch.tensor([[0.8, -0.6]], dtype=torch.float64)
ITEMS = torch.stack([torch.arange(10.0).cos(), torch.arange(10.0).sin()], dim=1).double()


def make_sampler(name: SamplerName, *, unique: bool = False, num_negatives: int = 6) -> Sampler:
    return negative_sampler(
        name, num_watches=NUM_WATCHES, power=0.75, num_negatives=num_negatives, unique=unique
    )


def draw_once(sampler: Sampler, generator: torch.Generator) -> Draw:
    """What objectives are told of a draw of a training that goes on."""
    shares = torch.from_numpy(NUM_WATCHES).double()
    positives = torch.cat([POSITIVE, torch.multinomial(shares, 5, True, generator=generator)])
    negatives = sampler.draw(positives, generator)
    sampler.observe(positives[1:])
    return {
        "positive_rows": POSITIVE,
        "negative_rows": negatives.rows,
        "negative_log_expected": negatives.log_expected.double(),
        "positive_log_expected": sampler.log_expected(POSITIVE).double(),
    }


def value_and_gradients(value: torch.Tensor, by: Tensors) -> torch.Tensor:
    return torch.cat([value[None], *(one.flatten() for one in torch.autograd.grad(value, by))])


def drawn_value(name: str, draw: Draw, user: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """The loss; of sampled softmax e^{loss + s_0}, which is the bracket within its logarithm."""
    vectors = user, items[POSITIVE], items[draw["negative_rows"]]
    match name:
        case "sampled softmax":
            loss = sampled_softmax_loss(*vectors, **{**draw, "positive_log_expected": None})
            return (loss + (user @ items[POSITIVE].T)[0, 0]).exp()
        case "noise contrastive":
            return noise_contrastive_loss(*vectors, **draw)
        case _:
            rows = {key: draw[key] for key in ("positive_rows", "negative_rows")}
            return negative_sampling_loss(*vectors, **rows)


def expected_value(
    name: str, log_expected: torch.Tensor, user: torch.Tensor, items: torch.Tensor
) -> torch.Tensor:
    """The same in closed form, given the log of the expected draws of every item [n]."""
    scores = (items[ITEM_ROWS] @ user.T)[:, 0]
    is_positive = POSITIVE == ITEM_ROWS
    match name:
        case "sampled softmax":
            return scores.exp().sum()
        case "noise contrastive":
            gaps = scores - log_expected
            return -logsigmoid(gaps[is_positive]).sum() - log_expected.exp() @ logsigmoid(-gaps)
        case _:
            expected = log_expected.exp() * ~is_positive
            return -logsigmoid(scores[is_positive]).sum() - expected @ logsigmoid(-scores)


def assert_unbiased(differences: torch.Tensor, scale: torch.Tensor) -> None:
    """Means over draws [R, k] are 0 within 5 standard errors, and those are small."""
    error = differences.std(dim=0) / len(differences) ** 0.5
    assert (error < 0.1 * scale.norm()).all()
    assert (differences.mean(dim=0).abs() <= 5 * error + 1e-6).all()


def differences_of(
    name: str, sampler: Sampler, correct: Callable[[Draw], Draw] = lambda draw: draw
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradients by user and items, less what is expected of them [R, k]; that [k]."""
    generator, by = torch.Generator().manual_seed(10), (USER.clone(), ITEMS.clone())
    for tensor in by:
        tensor.requires_grad_()
    differences = []
    for _ in range(120):
        draw = correct(draw_once(sampler, generator))
        log_expected = sampler.log_expected(ITEM_ROWS).double()
        expected = value_and_gradients(expected_value(name, log_expected, *by), by)
        differences.append(value_and_gradients(drawn_value(name, draw, *by), by) - expected)
    return torch.stack(differences), expected


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("sampler", get_args(SamplerName))
@pytest.mark.parametrize("name", ["sampled softmax", "noise contrastive", "negative sampling"])
def test_draws_give_the_expected_value_and_gradient(
    name: str, sampler: SamplerName, unique: bool
) -> None:
    """LAW: E over draws is Σ_i e^{s_i} under the softmax's logarithm, Σ_j E_j · … of the others."""
    assert_unbiased(*differences_of(name, make_sampler(sampler, unique=unique, num_negatives=5)))


@pytest.mark.parametrize("times", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("sampler", ["uniform", "unigram"])
def test_the_law_sees_a_wrong_correction(sampler: SamplerName, times: float) -> None:
    """Of the wrong sign, missing, or divided by a temperature of 1/2 along with the scores."""

    def wrong(draw: Draw) -> Draw:
        return draw | {"negative_log_expected": times * draw["negative_log_expected"]}

    differences, scale = differences_of("sampled softmax", make_sampler(sampler), wrong)
    with pytest.raises(AssertionError):
        assert_unbiased(differences, scale)


@pytest.mark.parametrize("name", ["uniform", "unigram"])
def test_what_is_left_of_the_bias_falls_as_one_over_the_negatives_at_least(
    name: SamplerName,
) -> None:
    """LAW: loss and gradient are those of the full softmax but for a bias that falls as 1 / S.

    So it does with independent tries; in strata it falls faster.

    To see it through the noise, what is of first order in the bracket is subtracted; its mean is
    known to be 0.
    """
    user = USER.clone().requires_grad_()
    scores = (ITEMS[ITEM_ROWS] @ user.T)[:, 0]
    full = value_and_gradients(
        full_softmax_loss(user, ITEMS[2:], positive_rows=POSITIVE - 2), (user,)
    )
    partition = value_and_gradients(scores.exp().sum(), (user,)).detach()

    def bias(num_negatives: int) -> torch.Tensor:
        sampler, generator = make_sampler(name, num_negatives=num_negatives), torch.Generator()
        rest: list[torch.Tensor] = []
        for _ in range(300):
            draw = draw_once(sampler, generator.manual_seed(len(rest)))
            bracket = value_and_gradients(
                drawn_value("sampled softmax", draw, user, ITEMS), (user,)
            )
            loss = bracket[0].log() - (USER @ ITEMS[POSITIVE].T)[0, 0]
            gradient = bracket[1:] / bracket[0] - ITEMS[POSITIVE[0]]
            off = (bracket - partition) / partition[0]
            first_order = torch.cat([off[:1], off[1:] - partition[1:] * off[0] / partition[0]])
            rest.append(torch.cat([loss[None], gradient]) - full - first_order)
        return torch.stack(rest).mean(dim=0)

    some, more, many = bias(30), bias(120), bias(480)
    assert some[0] < 0  # by Jensen's inequality the loss comes out too small
    assert some.norm() + EXACT > 3 * more.norm()
    assert more.norm() + EXACT > 3 * many.norm()  # uniform strata that fit hit every item alike


NUM_POSITIVES = torch.tensor([8, 4, 2, 1, 1])
NUM_DRAWS = torch.tensor([3, 1, 2, 1, 4])
"""At the optimum: of five items, each watched and drawn just as often as is expected of it."""


def best_scores(loss_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    scores = torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scores],
        max_iter=60,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(scores)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return scores.detach()[:, 0]


def test_noise_contrastive_scores_become_log_probabilities() -> None:
    """LAW: at the optimum u · v_j = log P(j), which add up to one by themselves."""
    watched = torch.arange(5).repeat_interleave(NUM_POSITIVES)
    drawn = torch.arange(5).repeat_interleave(NUM_DRAWS)
    log_expected = NUM_DRAWS.double().log()
    scores = best_scores(
        lambda scores: noise_contrastive_loss(
            torch.ones(16, 1, dtype=torch.float64),
            scores[watched],
            scores[drawn],
            positive_rows=watched,
            negative_rows=drawn,
            positive_log_expected=log_expected[watched],
            negative_log_expected=log_expected[drawn],
        )
    )
    torch.testing.assert_close(scores, (NUM_POSITIVES / 16).double().log(), rtol=0, atol=1e-6)


def test_negative_sampling_scores_become_shifted_pmi() -> None:
    """LAW: at the optimum u · v_j = log( P(j) / E_j ) − log(1 − P(j)), hits being left out."""
    watched = torch.arange(5).repeat_interleave(NUM_POSITIVES)
    drawn = torch.arange(5).repeat_interleave(NUM_DRAWS)
    scores = best_scores(
        lambda scores: negative_sampling_loss(
            torch.ones(16, 1, dtype=torch.float64),
            scores[watched],
            scores[drawn],
            positive_rows=watched,
            negative_rows=drawn,
        )
    )
    probability = (NUM_POSITIVES / 16).double()
    expected = (probability / NUM_DRAWS).log() - (1 - probability).log()
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
