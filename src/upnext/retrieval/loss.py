"""Objectives of stage 1: pure functions of vectors, with gradients in closed form."""

import torch

from upnext.retrieval.sweep import Draws, Hits, Precision, accidental_hits, drawn_part, softplus


def sampled_softmax_loss(
    user_vectors: torch.Tensor,
    positive_vectors: torch.Tensor,
    negative_vectors: torch.Tensor,
    *,
    positive_rows: torch.Tensor,
    negative_rows: torch.Tensor,
    negative_log_expected: torch.Tensor,
    positive_log_expected: torch.Tensor | None = None,
    precision: Precision = "float32",
) -> torch.Tensor:
    """Mean negative log probability of the watched item against S negatives shared by the batch.

        s_0 = u · v_0        s_j = u · v_j − log E_j
        loss = −s_0 + log( e^{s_0} + Σ_{j: row j ≠ row 0} e^{s_j} )

    E_j is the expected number of draws of j. A negative that is the positive itself (an accidental
    hit) has probability 0. The positive is given, not drawn, so that it carries no correction: the
    bracket's expectation is then exactly the full softmax's Σ_i e^{u · v_i}, and

        ∇loss = −(1 − P_0) · ∇[ s_0 − log Σ_{j: row j ≠ row 0} e^{s_j} ],

    which is the corrected logQ of Khrylchenko et al.: a softmax over negatives alone, weighted by
    the model's own doubt 1 − P_0. With `positive_log_expected` the classic form is had instead,
    s_0 = u · v_0 − log E_0, as in TensorFlow's sampled_softmax_loss and in Yi et al.

    Args:
        user_vectors: [B, D]. positive_vectors: [B, D], item vectors of the watched items.
        negative_vectors: [S, D].
        positive_rows: [B] int64. negative_rows: [S] int64.
        negative_log_expected: [S]. positive_log_expected: [B], for the classic form.

    Returns: a scalar, nats per example.
    Raises: ValueError: the vector sizes D differ.
    Sources: Covington, Adams, Sargin 2016, section 3.1; Jean et al. 2015, arXiv 1412.2007;
    Khrylchenko et al. 2025, arXiv 2507.09331; Yi et al. 2019, doi 10.1145/3298689.3346996.
    """
    positive_logits = _positive_logits(user_vectors, positive_vectors, negative_vectors)
    if positive_log_expected is not None:
        positive_logits = positive_logits - positive_log_expected
    hits = accidental_hits(positive_rows, negative_rows)
    draws = Draws(negative_vectors, negative_log_expected, hits)
    return drawn_part("softmax", user_vectors, positive_logits, draws, precision)


def full_softmax_loss(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    *,
    positive_rows: torch.Tensor,
    precision: Precision = "float32",
) -> torch.Tensor:
    """Mean negative log probability of the watched item among all items of the table.

        loss = −u · v_0 + log Σ_i e^{u · v_i}

    The reference that samples are measured against: every item is a negative, drawn exactly once.

    Args:
        user_vectors: [B, D]. item_vectors: [n, D]. positive_rows: [B], rows of `item_vectors`.

    Returns: a scalar, nats per example.
    Raises: ValueError: the vector sizes D differ.
    """
    positive_vectors = item_vectors.index_select(0, positive_rows)
    positive_logits = _positive_logits(user_vectors, positive_vectors, item_vectors)
    itself = Hits(torch.arange(len(positive_rows), device=positive_rows.device), positive_rows)
    draws = Draws(item_vectors, item_vectors.new_zeros(len(item_vectors)), itself)
    return drawn_part("softmax", user_vectors, positive_logits, draws, precision)


def noise_contrastive_loss(
    user_vectors: torch.Tensor,
    positive_vectors: torch.Tensor,
    negative_vectors: torch.Tensor,
    *,
    positive_rows: torch.Tensor,
    negative_rows: torch.Tensor,
    positive_log_expected: torch.Tensor,
    negative_log_expected: torch.Tensor,
    precision: Precision = "float32",
) -> torch.Tensor:
    """Mean logistic loss of telling the watched item from S draws of noise (NCE).

        Δ_j = u · v_j − log E_j
        loss = −log σ(Δ_0) − E_0 · log σ(−Δ_0) − Σ_{j: row j ≠ row 0} log σ(−Δ_j)

    E_j is the expected number of draws of j. At the optimum u · v_j = log P(j), probabilities that
    add up to one by themselves. For that the noise must now and then be the positive itself.
    Instead of as often as it happens to be drawn, which in a batch's own positives would take the
    example for its own noise, it counts here as often as is expected: E_0 times.

    Args:
        user_vectors: [B, D]. positive_vectors: [B, D], item vectors of the watched items.
        negative_vectors: [S, D].
        positive_rows: [B] int64. negative_rows: [S] int64.
        positive_log_expected: [B]. negative_log_expected: [S].

    Returns: a scalar, nats per example, summed over the draws.
    Raises: ValueError: the vector sizes D differ.
    Sources: Gutmann and Hyvärinen 2010, AISTATS 9; Mnih and Teh 2012, arXiv 1206.6426.
    """
    positive_logits = _positive_logits(user_vectors, positive_vectors, negative_vectors)
    gap = positive_logits - positive_log_expected
    of_positives = softplus(-gap) + positive_log_expected.exp() * softplus(gap)
    hits = accidental_hits(positive_rows, negative_rows)
    draws = Draws(negative_vectors, negative_log_expected, hits)
    return of_positives.mean() + drawn_part(
        "logistic", user_vectors, positive_logits, draws, precision
    )


def negative_sampling_loss(
    user_vectors: torch.Tensor,
    positive_vectors: torch.Tensor,
    negative_vectors: torch.Tensor,
    *,
    positive_rows: torch.Tensor,
    negative_rows: torch.Tensor,
    precision: Precision = "float32",
) -> torch.Tensor:
    """Mean logistic loss of word2vec: the watched item is 1, each of S negatives is 0.

        loss = −log σ(u · v_0) − Σ_{j: row j ≠ row 0} log σ(−u · v_j)

    Nothing is corrected for how often j is to be expected, E_j. What is learned is therefore no
    probability but u · v_j = log( P(j) / E_j ) − log(1 − P(j)), and the last term only because hits
    are left out, as the released word2vec does.

    Args:
        user_vectors: [B, D]. positive_vectors: [B, D], item vectors of the watched items.
        negative_vectors: [S, D].
        positive_rows: [B] int64. negative_rows: [S] int64.

    Returns: a scalar, nats per example, summed over the draws.
    Raises: ValueError: the vector sizes D differ.
    Sources: Mikolov et al. 2013, arXiv 1310.4546; Levy and Goldberg 2014 for the optimum.
    """
    positive_logits = _positive_logits(user_vectors, positive_vectors, negative_vectors)
    hits = accidental_hits(positive_rows, negative_rows)
    draws = Draws(negative_vectors, negative_vectors.new_zeros(len(negative_vectors)), hits)
    return softplus(-positive_logits).mean() + drawn_part(
        "logistic", user_vectors, positive_logits, draws, precision
    )


def _positive_logits(
    users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    sizes = {users.shape[1], positives.shape[1], negatives.shape[1]}
    if len(sizes) != 1:
        raise ValueError(f"user, positive and negative vectors differ in size: {sorted(sizes)}")
    return (users * positives).sum(dim=1)
