"""What a fake server tells of releases, labels and shares, in the contract's shapes."""

from typing import Any

from tests.console.fake_server import Answer, ready_answers, release_of

from upnext.metric_names import LOWER_IS_BETTER

Json = dict[str, Any]

CONFIG: Json = {
    "retrieval": {
        "guide": "recall_at_50",
        "network": {"vector_size": 64, "recent_watches": [1, 5]},
    },
    "ranking": {"network": {"kind": "mlp", "hidden_sizes": [256, 128]}, "seed": 0},
}
NOTES = ["Watches of items that were watched before are left out."]


def measured(value: float, width: float = 0.01) -> Json:
    return {"value": value, "low": value - width, "high": value + width}


def metrics_of(version: int) -> Json:
    """Of a release; later ones are a little better."""
    better = 0.0007 * version
    return {
        "retrieval": {
            "recall_at_50": measured(0.31 + better),
            "ndcg_at_10": measured(0.121 + better, 0.004),
            "coverage_at_50": measured(0.44),
        },
        "ranking": {
            "weighted_per_user_loss": measured(0.2231 - better, 0.003),
            "per_user_auc": measured(0.702 + better, 0.005),
            "mean_absolute_error_s": measured(21.3, 0.2),
        },
    }


def held(version: int, state: str = "ready", cause: str = "") -> Json:
    """A release in a server process, as a line of `servers` has it."""
    told = {"version": version, "state": state, "cause": cause, "num_running": 0}
    is_ready = state == "ready"
    return told | {"load_time_s": 1.84 if is_ready else None, "num_tried": 64 if is_ready else None}


def server_of(pid: int, *releases: Json, **labels: int) -> Json:
    """A server process that lives."""
    return {
        "server": f"{pid}-abcd",
        "pid": pid,
        "started_at_ms": 0,
        "releases": list(releases),
        "labels": labels,
        "problems": {},
    }


def releases_told(num: int, *, servers: list[Json], **labels: int) -> Json:
    """GET /insight/v1/releases: so many, with servers and labels."""
    rows = []
    for version in range(1, num + 1):
        holders = [
            {"server": one["server"], "pid": one["pid"], **kept}
            for one in servers
            for kept in one["releases"]
            if kept["version"] == version
        ]
        standing = [label for label, at in labels.items() if at == version]
        rows.append(
            release_of(
                version,
                labels=standing,
                servers=holders,
                metrics=metrics_of(version),
                has_evaluation=True,
            )
        )
    return {
        "releases": rows,
        "labels": labels,
        "servers": servers,
        "rollback": {label: at - 1 or None for label, at in labels.items()},
    }


def detail_of(version: int, **fields: Any) -> Json:
    """GET /insight/v1/releases/{version}."""
    systems = {
        stage: [
            {"name": stage, "is_baseline": False, "metrics": told},
            {
                "name": "most watched",
                "is_baseline": True,
                "metrics": {
                    name: measured((1.4 if name in LOWER_IS_BETTER else 0.7) * one["value"])
                    for name, one in told.items()
                },
            },
        ]
        for stage, told in metrics_of(version).items()
    }
    return {
        "version": version,
        "labels": [],
        "created_at": "2026-11-02T10:00:00Z",
        "problem": "",
        "size_bytes": 12_345_678,
        "servers": [],
        "manifest_sha256": "ab" * 32,
        "files": [
            {"name": f"retrieval/{n}.npy", "size_bytes": 1_000 * n, "sha256": "cd" * 32}
            for n in range(40)
        ],
        "metadata": {"num_items": 4_726, "index_recall_at_100": 1.0},
        "config": CONFIG,
        "evaluation": {
            "protocol": "Training ended before the test; the test is the last 1 days.",
            "from_ms": 1_770_077_001_946,
            "until_ms": 1_770_163_339_778,
            "counts": {"targets": 6_563, "users": 1_362},
            "notes": NOTES,
            **systems,
        },
        "lineage": {
            "extends": None,
            "training": "0123abcd",
            "train_until": "2026-11-02T08:00:00+00:00",
            "history_until": "2026-11-02T08:00:00+00:00",
        },
        "warm_up": {"num_servers": 0, "load_time_s": None, "num_tried": None},
        **fields,
    }


def move(number: int, label: str = "stable", **fields: Any) -> Json:
    """A line of the journal."""
    return {
        "moved_at": f"2026-11-02T{number // 60 % 24:02}:{number % 60:02}:00.123Z",
        "label": label,
        "kind": "move",
        "from_version": number or None,
        "to_version": number + 1,
        "actor": "admin",
        "reason": f"reason {number}",
        **fields,
    }


TRAFFIC: Json = {
    "split": {"stable": 0.93, "canary": 0.07},
    "shadow": {"label": "canary", "share": 0.1},
    "gate": {
        "is_on": True,
        "num_answers": 200,
        "max_more_degraded": 0.05,
        "max_times_slower": 3.0,
        "slow_ms": 20.0,
    },
}


def released_answers(num: int = 3, **labels: int) -> dict[str, Answer]:
    """A server of two processes, with so many releases; every process holds the labelled ones."""
    labels = labels or {"stable": num - 1}
    ready = [held(version) for version in sorted(set(labels.values()))]
    servers = [server_of(pid, *ready, **labels) for pid in (11, 12)]
    moves = [move(number) for number in range(3)]
    return ready_answers() | {
        "GET /insight/v1/releases": releases_told(num, servers=servers, **labels),
        **{f"GET /insight/v1/releases/{n}": detail_of(n) for n in range(1, num + 1)},
        "GET /insight/v1/traffic": TRAFFIC,
        "GET /insight/v1/journal": lambda asked: {"moves": moves[-int(asked.query["num"]) :]},
    }
