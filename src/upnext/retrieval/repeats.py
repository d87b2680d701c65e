"""Do users watch again? What a score gains, or loses, where its item was watched before."""

import numpy as np
from numpy.typing import NDArray

from upnext.examples.watches import WatchTargets
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS, Floats

SCORES_AT_ONCE = 8_000_000
MAX_STEPS = 100
SMALLEST_STEP = 1e-9


def repeat_bonus_of(trained: TrainedRetrieval, targets: WatchTargets) -> float:
    """The bonus that says best, of later watches, whether they were of items watched before.

    A user vector of D numbers cannot tell hundreds of watched items from those that are like them.
    Whether people come back to what they have watched is a habit of a platform, as of songs, or the
    want of it, as of films, and one number tells it.
    """
    log_odds, is_repeat = _repeats(trained, targets)
    return fit_repeat_bonus(log_odds, is_repeat)


def fit_repeat_bonus(log_odds: Floats, is_repeat: NDArray[np.bool_]) -> float:
    """The bonus ρ of greatest likelihood, by Newton's steps on a convex function.

        P(i) ∝ e^{s_i + ρ [i watched before]}    ⇒    P(a repeat) = σ(ρ + Δ)
        Δ = log Σ_{watched} e^{s_i} − log Σ_{others} e^{s_i}

    Which of the watched, or of the others, it was does not depend on ρ. So it is the intercept of
    a logistic regression. Half a repeat and half a first watch at Δ = 0 are counted as well, so
    that where nobody ever came back ρ is low, but finite.

    Args:
        log_odds: [B] Δ, finite. is_repeat: [B] whether the watch was a repeat.

    >>> round(fit_repeat_bonus(np.zeros(3, np.float32), np.array([True, True, False])), 3)
    0.511
    """
    offsets = np.append(log_odds.astype(np.float64), 0.0)
    weights = np.ones(len(offsets))
    num_repeats = is_repeat.sum() + 0.5
    bonus = 0.0
    for _ in range(MAX_STEPS):
        chances = 0.5 + 0.5 * np.tanh(0.5 * (bonus + offsets))
        slope = num_repeats - weights @ chances
        curvature = weights @ (chances * (1 - chances))
        # Far from the optimum a quadratic says little, and Newton's step would overshoot.
        step = float(np.clip(slope / max(curvature, 1e-12), -1.0, 1.0))
        bonus += step
        if abs(step) < SMALLEST_STEP:
            break
    return bonus


def _repeats(trained: TrainedRetrieval, targets: WatchTargets) -> tuple[Floats, NDArray[np.bool_]]:
    """Of targets whose item is known, and whose user had watched one: Δ, and which are repeats."""
    queries = trained.query_encoder.queries(targets.history, targets.user_rows, targets.at_ms)
    of_users, of_items = trained.user_vectors(targets.history, queries), trained.item_vectors()
    starts, watched = targets.watched_before()
    log_odds = np.full(len(targets), np.nan, np.float32)
    is_repeat = np.zeros(len(targets), bool)
    at_once = max(1, SCORES_AT_ONCE // len(of_items))
    for start in range(0, len(targets), at_once):
        part = slice(start, min(start + at_once, len(targets)))
        rows = watched[starts[part.start] : starts[part.stop]]
        events = np.repeat(np.arange(part.stop - start), np.diff(starts[start : part.stop + 1]))
        is_known = rows >= NUM_RESERVED_ROWS
        is_watched = np.zeros((part.stop - start, len(of_items)), bool)
        is_watched[events[is_known], rows[is_known]] = True
        scores = (of_users[part] @ of_items.T).astype(np.float64)
        scores[:, :NUM_RESERVED_ROWS] = -np.inf
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        of_watched, of_all = (odds * is_watched).sum(axis=1), odds.sum(axis=1)
        with np.errstate(divide="ignore"):
            log_odds[part] = np.log(of_watched) - np.log(of_all - of_watched)
        is_repeat[part] = is_watched[np.arange(len(scores)), targets.item_rows[part]]
    counts = np.isfinite(log_odds) & (targets.item_rows >= NUM_RESERVED_ROWS)
    return log_odds[counts], is_repeat[counts]
