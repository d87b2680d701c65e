"""Objectives of stage 1: pure functions of vectors, with gradients in closed form."""

from typing import Any

import torch

CHUNK_LOGITS = 2**20
"""Logits held at once; what is larger is worked off in chunks of examples."""


def sampled_softmax_loss(
    user_vectors: torch.Tensor,
    positive_vectors: torch.Tensor,
    negative_vectors: torch.Tensor,
    *,
    positive_rows: torch.Tensor,
    negative_rows: torch.Tensor,
    negative_log_q: torch.Tensor,
) -> torch.Tensor:
    """Mean negative log probability of the watched item against S negatives shared by the batch.

        s_0 = u · v_0        s_j = u · v_j − log Q(j)
        loss = −s_0 + log( e^{s_0} + Σ_{j: row j ≠ row 0} e^{s_j} )

    Q(j) is the expected number of draws of j. A negative that is the positive itself (an
    accidental hit) has probability 0. The positive is given, not drawn, so that it carries no
    correction: the bracket's expectation is then exactly the full softmax's Σ_i e^{u · v_i}.

    One pass over chunks of logits gives loss and gradient, softmax minus one-hot; the [B, S]
    matrix is never whole in memory.

    Args:
        user_vectors: [B, D].
        positive_vectors: [B, D], the item vectors of the watched items.
        negative_vectors: [S, D].
        positive_rows: [B] int64. negative_rows: [S] int64.
        negative_log_q: [S], log of the expected draws of each negative.

    Returns: a scalar, nats per example.
    Raises: ValueError: the vector sizes D differ.
    Source: Covington, Adams, Sargin 2016, section 3.1; Jean et al. 2015, arXiv 1412.2007.
    """
    sizes = {user_vectors.shape[1], positive_vectors.shape[1], negative_vectors.shape[1]}
    if len(sizes) != 1:
        raise ValueError(f"user, positive and negative vectors differ in size: {sorted(sizes)}")
    loss: torch.Tensor = _OnePassSoftmax.apply(  # type: ignore[no-untyped-call]
        user_vectors,
        positive_vectors,
        negative_vectors,
        positive_rows,
        negative_rows,
        negative_log_q,
    )
    return loss


def full_softmax_loss(
    user_vectors: torch.Tensor, item_vectors: torch.Tensor, *, positive_rows: torch.Tensor
) -> torch.Tensor:
    """Mean negative log probability of the watched item among all items of the table.

        loss = −u · v_0 + log Σ_i e^{u · v_i}

    The reference that samples are measured against: every item is a negative, drawn exactly once.

    Args:
        user_vectors: [B, D]. item_vectors: [n, D]. positive_rows: [B], rows of `item_vectors`.

    Returns: a scalar, nats per example.
    """
    every_row = torch.arange(len(item_vectors), device=item_vectors.device)
    return sampled_softmax_loss(
        user_vectors,
        item_vectors[positive_rows],
        item_vectors,
        positive_rows=positive_rows,
        negative_rows=every_row,
        negative_log_q=torch.zeros_like(every_row, dtype=item_vectors.dtype),
    )


class _OnePassSoftmax(torch.autograd.Function):
    """The loss above, and with it the gradient of its mean."""

    @staticmethod
    def forward(
        ctx: Any,
        users: torch.Tensor,
        positives: torch.Tensor,
        negatives: torch.Tensor,
        positive_rows: torch.Tensor,
        negative_rows: torch.Tensor,
        negative_log_q: torch.Tensor,
    ) -> torch.Tensor:
        loss = users.new_zeros(())
        grad_users = torch.empty_like(users)
        grad_positives = torch.empty_like(positives)
        grad_negatives = torch.zeros_like(negatives)
        step = max(1, CHUNK_LOGITS // len(negatives))
        for start in range(0, len(users), step):
            part = slice(start, start + step)
            u, v = users[part], positives[part]
            logits = torch.addmm(-negative_log_q, u, negatives.T)
            logits.masked_fill_(positive_rows[part, None] == negative_rows, -torch.inf)
            positive_logit = (u * v).sum(dim=1, keepdim=True)
            top = torch.maximum(logits.amax(dim=1, keepdim=True), positive_logit)
            odds = logits.sub_(top).exp_()
            positive_odds = (positive_logit - top).exp_()
            total = odds.sum(dim=1, keepdim=True) + positive_odds
            loss += (total.log() + top - positive_logit).sum()
            probability = odds.div_(total)
            surprise = 1 - positive_odds / total
            grad_users[part] = probability @ negatives - surprise * v
            grad_positives[part] = -surprise * u
            grad_negatives.addmm_(probability.T, u)
        ctx.save_for_backward(grad_users, grad_positives, grad_negatives)
        ctx.num_examples = len(users)
        return loss / len(users)

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale = grad_loss / ctx.num_examples
        users, positives, negatives = (grad * scale for grad in ctx.saved_tensors)
        return users, positives, negatives, None, None, None
