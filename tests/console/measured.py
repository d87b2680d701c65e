"""What a fake server tells of training, quality, data and traffic, in the contract's shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

DAY_MS = 86_400_000
BEGAN_MS = 1_795_619_337_000
RUN, OTHER = "cc665407699e401b0ecd74700471c1f8", "0c00b027242acfe7e789533dc61649a8"
STAGES = ("past", "user_vector", "candidates", "ranking", "page", "total", "served")
BOUNDS_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.512)


def value(middle: float | None, width: float = 0.01) -> Json:
    """A metric with its interval."""
    if middle is None:
        return {"value": None, "low": None, "high": None}
    return {"value": middle, "low": middle - width, "high": middle + width}


def bins(*lows: float) -> list[Json]:
    """Calibration, a bin each."""
    return [
        {
            "low": low,
            "high": 1.5 * low + 1,
            "num_impressions": 4_862 + place,
            "predicted_s": 1.3 * low + 0.4,
            "actual_s": 1.2 * low + 0.5,
            "ratio": value(0.96 + 0.017 * place, 0.09),
        }
        for place, low in enumerate(lows)
    ]


def system(name: str, is_baseline: bool, **metrics: float) -> Json:
    told = {metric: value(middle) for metric, middle in metrics.items()}
    return {"name": name, "metrics": told, "is_baseline": is_baseline}


def report(**fields: Any) -> Json:
    """An evaluation's report.json with all of its parts."""
    ranked = {"weighted_per_user_loss": 0.1905, "auc": 0.7148, "mean_absolute_error_s": 20.68}
    slices = ("all", "new users, under 10 watches", "new items, under 5 watches")
    return {
        "protocol": "Training ended before the test; the test is the last 1 days.",
        "from_ms": 1_770_077_001_946,
        "until_ms": 1_770_163_339_778,
        "counts": {"targets": 6_563, "users": 1_362, "items": 4_726},
        "retrieval": [
            system("retrieval", False, recall_at_50=0.1295, ndcg_at_10=0.0226),
            system("most watched", True, recall_at_50=0.0815, ndcg_at_10=0.0165),
        ],
        "differences": [
            {
                "system": "retrieval",
                "baseline": "most watched in 7 days",
                "metric": "recall_at_50",
                "difference": value(0.0221, 0.007),
            }
        ],
        "ranking": [
            system("ranking", False, **ranked),
            system("most watched", True, weighted_per_user_loss=0.4064, auc=0.5702),
        ],
        "ranking_slices": [
            {
                "name": name,
                "num_impressions": 48_620 // (place + 1) ** 3,
                "metrics": {m: value(v * (1 + 0.13 * place)) for m, v in ranked.items()},
            }
            for place, name in enumerate(slices)
        ],
        "calibration": bins(0.017, 1.43, 3.9, 9.2, 24.5),
        "calibration_overall": bins(14.1)[0],
        "calibration_by_duration": bins(10.9, 72.7, 190.0),
        "calibration_by_position": bins(0.0, 1.0, 2.0),
        "feature_importance": [
            {"name": name, "num_requests": 2_345, "loss_increase": value(grew, 0.004)}
            for name, grew in (("history", 0.0871), ("item's age", 0.0134), ("clock", -0.0007))
        ],
        "funnel": [
            {"name": "targets", "num_events": 6_563},
            {"name": "among the candidates", "num_events": 2_871},
            {"name": "on the page", "num_events": 944},
        ],
        "policies": [
            {
                "name": "upnext",
                "expected_watch_time_s": 31.4,
                "low": 30.9,
                "high": 31.9,
                "share_of_best": 0.873,
            }
        ],
        "off_policy": [
            {
                "policy": "in proportion to expected watch time",
                "num_slots": 4_861,
                "logged_s": value(14.2, 0.4),
                "ips_s": value(17.7, 0.9),
                "snips_s": value(17.3, 0.8),
                "doubly_robust_s": value(17.5, 0.7),
                "mean_weight": value(1.02, 0.03),
                "max_weight": 14.0,
                "effective_num_slots": 2_204.0,
                "num_clipped": 3,
                "truth_s": None,
            }
        ],
        "notes": ["Watches of items that were watched before are left out."],
        **fields,
    }


def detail(version: int, **fields: Any) -> Json:
    """GET /insight/v1/releases/{version}."""
    return {
        "version": version,
        "labels": ["stable"] if version == 2 else [],
        "created_at": "2026-11-03T10:00:00Z",
        "problem": "",
        "size_bytes": 12_345_678,
        "servers": [],
        "manifest_sha256": "ab" * 32,
        "files": [],
        "metadata": {},
        "config": {},
        "evaluation": None,
        "lineage": {"extends": None, "training": RUN, "train_until": None, "history_until": None},
        "warm_up": {"num_servers": 1, "load_time_s": 1.2, "num_tried": 9},
        **fields,
    }


def curve(part: str, *, num_steps: int = 90, num_epochs: int = 3, **fields: Any) -> Json:
    """A part of a run: a report every 10 steps, an epoch every 30."""
    steps = range(0, num_steps + 1, 10)
    return {
        "part": part,
        "points": [
            {
                "step": step,
                "at_ms": BEGAN_MS + 100 * step,
                "loss": 7.0 + 1.5 / (1 + step / 20),
                "learning_rate": 0.004 * (1 - step / (num_steps + 1)),
                "examples_per_s": 39_000.0 + 7 * step,
            }
            for step in steps
        ],
        "epochs": [
            {
                "epoch": place,
                "step": 30 * (place + 1),
                "at_ms": BEGAN_MS + 3_000 * (place + 1),
                "metrics": {
                    "loss": 7.4 - 0.1 * place,
                    "examples_per_s": 39_111.0,
                    "recall_at_50": (0.1134, 0.1278, 0.1214)[place % 3],
                },
            }
            for place in range(num_epochs)
        ],
        "best_epoch": 1 if num_epochs > 1 else None,
        "resumes": [],
        "num_points": len(steps),
        "num_unreadable": 0,
        **fields,
    }


def run(training: str, *curves: Json, release: int | None = None, is_running: bool = False) -> Json:
    """GET /insight/v1/training/{training}."""
    return {
        "training": training,
        "release": release,
        "is_running": is_running,
        "curves": list(curves),
    }


def head(told: Json) -> Json:
    """The run as the list of runs tells it."""
    curves = [
        {
            "part": one["part"],
            "num_points": one["num_points"],
            "num_epochs": len(one["epochs"]),
            "num_resumes": len(one["resumes"]),
            "best_epoch": one["best_epoch"],
            "first_at_ms": one["points"][0]["at_ms"] if one["points"] else None,
            "last_at_ms": one["points"][-1]["at_ms"] if one["points"] else None,
            "last_step": one["points"][-1]["step"] if one["points"] else None,
            "last_loss": one["points"][-1]["loss"] if one["points"] else None,
        }
        for one in told["curves"]
    ]
    return {**told, "curves": curves}


def with_runs(*runs: Json) -> Json:
    """Both routes of training."""
    told: Json = {"GET /insight/v1/training": {"runs": [head(one) for one in runs]}}
    return told | {f"GET /insight/v1/training/{one['training']}": one for one in runs}


def table(num_read: int, quarantined: Mapping[str, int], **fields: Any) -> Json:
    return {
        "num_read": num_read,
        "num_accepted": num_read - sum(quarantined.values()),
        "quarantined": dict(quarantined),
        "blanked": {},
        "unused_columns": [],
        "first_ms": None,
        "last_ms": None,
        **fields,
    }


def data(**fields: Any) -> Json:
    """GET /insight/v1/data/{version}."""
    first_ms = 20_458 * DAY_MS
    watches = table(
        224_643,
        {"duplicate": 118, "watch_time_s negative": 412},
        unused_columns=["player", "autoplay"],
        blanked={"duration_s not a number": 77},
        first_ms=first_ms + 6_800,
        last_ms=first_ms + 13 * DAY_MS + 71_356_586,
        per_day=[
            {"day_ms": first_ms + day * DAY_MS, "num_rows": 15_000 + 777 * (day % 5)}
            for day in range(14)
        ],
        examples=[
            {
                "reason": "watch_time_s negative",
                "file": "watches/2026-01-05.csv",
                "row": 18_204,
                "cells": {"user_id": "u17", "item_id": "v903", "watch_time_s": "-3.0"},
            }
        ],
    )
    return {
        "tables": {"items": table(5_000, {}), "watches": watches},
        "unreadable_files": [{"file": "watches/2026-01-09.csv", "cause": "it is cut short"}],
        "derived": ["users were made from watches: 2,000 of them."],
        **fields,
    }


def slow_request(took_ms: float, **fields: Any) -> Json:
    """A request of GET /insight/v1/slow; a part of its time no stage tells."""
    shares = {"past": 0.08, "user_vector": 0.05, "candidates": 0.22, "ranking": 0.35, "page": 0.05}
    timings = {stage: share * took_ms for stage, share in shares.items()}
    return {
        "request_id": f"request-{took_ms:g}",
        "at_ms": BEGAN_MS,
        "release": "2",
        "label": "stable",
        "took_ms": took_ms,
        "timings_ms": {**timings, "total": 0.75 * took_ms, "served": took_ms},
        "degraded": [],
        "k": 10,
        "num_candidates": 300,
        "process": 4_711,
        **fields,
    }


def histogram(
    name: str, values: Sequence[float], bounds: Sequence[float] = BOUNDS_S, **labels: str
) -> str:
    """What /metrics tells of such observations."""
    told = "".join(f'{label}="{text}",' for label, text in labels.items())
    lines = [
        f'{name}_bucket{{{told}le="{bound}"}} {sum(one <= bound for one in values)}'
        for bound in (*bounds, float("inf"))
    ]
    lines += [f"{name}_sum{{{told}}} {sum(values)!r}", f"{name}_count{{{told}}} {len(values)}"]
    return "\n".join(lines) + "\n"


def measured_answers() -> Json:
    """Release 2 was evaluated, release 1 was not; one run is done and one learns."""
    done = run(RUN, curve("chosen/retrieval"), curve("chosen/ranking", num_steps=60), release=2)
    resumed = [{"step": 20, "at_ms": BEGAN_MS + 2_500}]
    learning = run(
        OTHER,
        curve("chosen/retrieval", num_steps=40, num_epochs=1, best_epoch=None, resumes=resumed),
        is_running=True,
    )
    slow = [slow_request(412.0, degraded=["ranking would have come too late"]), slow_request(97.0)]
    return {
        "GET /insight/v1/releases/1": detail(1),
        "GET /insight/v1/releases/2": detail(2, evaluation=report()),
        "GET /insight/v1/data/1": {"tables": {}, "unreadable_files": [], "derived": []},
        "GET /insight/v1/data/2": data(),
        "GET /insight/v1/slow": {"window_s": 600.0, "num_seen": 73_456, "slow": slow},
        **with_runs(done, learning),
    }
