"""Do users watch again? What a score gains, or loses, where its item was watched before."""

import numpy as np
from numpy.typing import NDArray

from upnext.examples.watches import WatchTargets
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS, Floats

SCORES_AT_ONCE = 64_000_000
"""Held in 256 MB: some dozens of users read a million items together, not each for itself."""
EVENTS_AT_ONCE = 512
"""At most, as all that their users had watched is held beside the scores."""
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


def fit_repeat_bonus(log_odds: NDArray[np.floating], is_repeat: NDArray[np.bool_]) -> float:
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
    num_repeats = is_repeat.sum() + 0.5
    bonus = 0.0
    for _ in range(MAX_STEPS):
        chances = 0.5 + 0.5 * np.tanh(0.5 * (bonus + offsets))
        slope = num_repeats - chances.sum()
        curvature = (chances * (1 - chances)).sum()
        # Far from the optimum a quadratic says little, and Newton's step would overshoot.
        step = float(np.clip(slope / max(curvature, 1e-12), -1.0, 1.0))
        bonus += step
        if abs(step) < SMALLEST_STEP:
            break
    return bonus


def repeat_log_odds(
    scores: Floats, events: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Δ [B] of scores [B, N], which are used up; not finite where a side has no item.

    Row rows[p] was watched before event events[p], which rise. Each side is summed from its own
    greatest score, as one may be next to nothing beside the other.
    """
    log_watched = np.full(len(scores), -np.inf)
    present, first = np.unique(events, return_index=True)
    of_watched = scores[events, rows].astype(np.float64)
    log_watched[present] = np.logaddexp.reduceat(of_watched, first)
    scores[events, rows] = -np.inf
    scores[:, :NUM_RESERVED_ROWS] = -np.inf
    greatest = scores.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.exp(np.subtract(scores, greatest, out=scores), out=scores)
        log_others = greatest[:, 0] + np.log(scores.sum(axis=1, dtype=np.float64))
    log_odds: NDArray[np.float64] = log_watched - log_others
    return log_odds


def _repeats(
    trained: TrainedRetrieval, targets: WatchTargets
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of targets whose item is known, and whose user had watched one: Δ, and which are repeats."""
    queries = trained.query_encoder.queries(targets.history, targets.user_rows, targets.at_ms)
    of_users, of_items = trained.user_vectors(targets.history, queries), trained.item_vectors()
    starts, watched = targets.watched_before()
    log_odds = np.full(len(targets), np.nan)
    is_repeat = np.zeros(len(targets), bool)
    num_rows = len(of_items)
    at_once = max(1, min(EVENTS_AT_ONCE, SCORES_AT_ONCE // num_rows))
    for start in range(0, len(targets), at_once):
        part = slice(start, min(start + at_once, len(targets)))
        rows = watched[starts[part.start] : starts[part.stop]].astype(np.int64)
        events = np.repeat(np.arange(part.stop - start), np.diff(starts[start : part.stop + 1]))
        is_known = rows >= NUM_RESERVED_ROWS
        pairs = np.unique(events[is_known] * num_rows + rows[is_known])
        log_odds[part] = repeat_log_odds(of_users[part] @ of_items.T, *np.divmod(pairs, num_rows))
        asked = np.arange(part.stop - start) * num_rows + targets.item_rows[part]
        is_repeat[part] = np.isin(asked, pairs)
    counts = np.isfinite(log_odds) & (targets.item_rows >= NUM_RESERVED_ROWS)
    return log_odds[counts], is_repeat[counts]
