"""What metrics are called, and what they mean, wherever a person reads of them."""

import re

LOWER_IS_BETTER = frozenset(
    {"loss", "mean_absolute_error_s", "validation_loss", "validation_weighted_per_user_loss"}
    | {"weighted_per_user_loss"}
)
_SHORT_WORDS = {
    "xauc": "XAUC",
    "auc": "AUC",
    "ndcg": "NDCG",
    "average precision": "MAP",
    "per user": "per-user",
}
_MEANINGS = {
    "recall": "Share of targets among the first {k}.",
    "ndcg": "How near the top of the first {k} the target stands: 1 at the very top.",
    "average_precision": "Mean of 1 / rank of the target, 0 beyond the first {k}.",
    "coverage": "Share of all items that stand among anybody's first {k}.",
    "fresh_share": "Share of the first {k} that were published lately.",
    "weighted_per_user_loss": "Share of watch time that is below an unwatched item of its page.",
    "auc": "How often a watched impression is above an unwatched one.",
    "per_user_auc": "AUC within each user, then over users.",
    "watch_time_ndcg": "Watch time near the top of the page, as a share of the best order's.",
    "xauc": "How often the one of two impressions that was watched longer is above.",
    "per_user_xauc": "XAUC within each user, then over users.",
    "mean_absolute_error_s": "Mean distance of expected from actual watch time.",
    "calibration_ratio": "Expected over actual watch time: 1 is calibrated.",
}


def goodness(name: str, value: float) -> float:
    """A number that is greater the better the metric's value is.

    >>> [goodness(*one) for one in (("auc", 0.7), ("loss", 0.7), ("calibration_ratio", 0.5))]
    [0.7, -0.7, -0.5]
    """
    if name == "calibration_ratio":
        return -abs(value - 1)
    return -value if name in LOWER_IS_BETTER else value


def metric_label(name: str) -> str:
    """How a metric is called in text and pictures, with its unit and a sign if lower is better.

    >>> metric_label("recall_at_50"), metric_label("mean_absolute_error_s"), metric_label("auc")
    ('recall@50', 'mean absolute error, s ↓', 'AUC')
    """
    label = name.removesuffix("_s").replace("_at_", "@").replace("_", " ")
    for word, short in _SHORT_WORDS.items():
        label = label.replace(word, short)
    if name.endswith("_s"):
        label = f"{label}, s"
    return f"{label} ↓" if name in LOWER_IS_BETTER else label


def metric_meaning(name: str) -> str:
    """What a metric measures, in a sentence; nothing of one that is not known.

    >>> metric_meaning("recall_at_50"), metric_meaning("own")
    ('Share of targets among the first 50.', '')
    """
    found = re.fullmatch("(.*)_at_([0-9]+)", name)
    stem, k = found.groups() if found else (name, "")
    return _MEANINGS.get(stem, "").format(k=k)
