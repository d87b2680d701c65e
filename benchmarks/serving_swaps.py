"""Do releases swap under load without one wrong answer, and what do swaps cost?

    python -m benchmarks.serving_swaps REGISTRY --rate 40

REGISTRY is one of `million_release`; a copy by links is served, so its labels stay. At a steady
rate (without --rate: 60% of the highest that keeps its limit) the label moves to the other release
and back, by moves and rollbacks in turn; damaged releases are tried; then the same once more. Every
answer is held against pages that were asked for before, from one release at a time:

    errors            anything but 200, and requests that nobody answered
    late              from the old release, though asked for after the move was acknowledged
    mixed             a page that its release would not have given to this user

Latency in the windows of swaps, from the move's begin to half a second after its acknowledgement,
stands beside that of all other moments; memory before beside that after.
"""

import argparse
import json
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.label_moves import Move, move_to, roll_back
from benchmarks.load_report import Records, highest_rate, latencies_ms
from benchmarks.open_loop import Load, page_checksum
from benchmarks.serving_processes import (
    RunningLoad,
    Served,
    add_broken,
    free_port,
    linked_registry,
    measured,
    running,
    upnext_command,
    write_users,
)
from numpy.typing import NDArray

from upnext.errors import ReleaseError
from upnext.examples.encoder import now_ms
from upnext.recommender import Recommender
from upnext.schema import RecommendationRequest

VERSIONS, UNSEALED, SEALED = (1, 2), 3, 4
NUM_USERS, NUM_FAILING, NUM_MORE = 300, 10, 200
WARM_UP_S, AFTER_S, PAUSE_S = 3.0, 0.5, 0.3
SHARE_OF_HIGHEST = 0.6

Checksums = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What must not happen."""

    num_errors: int
    num_late: int
    num_mixed: int


def main() -> None:
    """Prints JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--num-swaps", type=int, default=100)
    parser.add_argument("--num-more", type=int, default=NUM_MORE)
    parser.add_argument("--serve-options", default="", help="more for `upnext serve`, in one")
    arguments = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory(dir=arguments.registry.parent) as folder:
        registry = linked_registry(arguments.registry, Path(folder), VERSIONS)
        add_broken(registry, UNSEALED, VERSIONS[1], is_sealed=False)
        add_broken(registry, SEALED, VERSIONS[1], is_sealed=True)
        users = write_users(registry, VERSIONS[0], Path(folder) / "users.txt", most=NUM_USERS)
        at_ms = now_ms()
        pages = expected_pages(registry, users.read_text().split("\n"), at_ms)
        command = upnext_command(registry, port, shlex.split(arguments.serve_options))
        with running(command, port) as server:
            rate = arguments.rate or SHARE_OF_HIGHEST * _highest_rate(server, users)
            load = Load(url=server.url, rate=rate, seconds=7_200, at_ms=at_ms, unlogged=True)
            told = _under_load(
                registry, server, load, users, pages, arguments.num_swaps, arguments.num_more
            )
    print(json.dumps(told, indent=2))


def expected_pages(registry: Path, users: Sequence[str], at_ms: int) -> dict[int, Checksums]:
    """By version, the checksum of each user's page, as the release alone gives it."""
    pages = {}
    for version in VERSIONS:
        recommender = Recommender.open(registry, version, verify=False)
        asked = [RecommendationRequest(user_id=user, k=20, at_ms=at_ms) for user in users]
        answers = [recommender.recommend(request) for request in asked]
        checksums = [page_checksum([item.item_id for item in one.items]) for one in answers]
        pages[version] = np.array(checksums, np.uint32)
    return pages


def faults_of(
    records: Records, moves: Sequence[Move], pages: dict[int, Checksums], first_version: int
) -> Faults:
    """Errors, late and mixed answers.

    What is sent after a move was acknowledged must be answered by its release, unless the next
    move began before the answer came.
    """
    is_answered = records["status"] == 200
    is_late = np.zeros(len(records), bool)
    acknowledged = [(-np.inf, first_version), *((one.acknowledged_s, one.version) for one in moves)]
    next_began = [*(one.began_s for one in moves), np.inf]
    for (since_s, version), until_s in zip(acknowledged, next_began, strict=True):
        is_between = (records["sent_s"] >= since_s) & (records["done_s"] < until_s)
        is_late |= is_between & is_answered & (records["release"] != version)
    is_known = np.isin(records["release"], list(pages))
    is_mixed = is_answered & ~(is_known & records["is_right"])
    # A page that says it is less than it could be is another one; that is no mixture of releases.
    is_whole = is_answered & ~records["is_degraded"]
    for version, checksums in pages.items():
        of_version = is_whole & (records["release"] == version)
        is_mixed |= of_version & (records["page"] != checksums[records["user"]])
    return Faults(
        num_errors=int((~is_answered).sum()),
        num_late=int(is_late.sum()),
        num_mixed=int(is_mixed.sum()),
    )


def in_windows(records: Records, moves: Sequence[Move]) -> NDArray[np.bool_]:
    """Which requests were due while a label moved, or just after."""
    inside = np.zeros(len(records), bool)
    for move in moves:
        due_s = records["scheduled_s"]
        inside |= (due_s >= move.began_s) & (due_s <= move.acknowledged_s + AFTER_S)
    return inside


def _under_load(
    registry: Path,
    server: Served,
    load: Load,
    users: Path,
    pages: dict[int, Checksums],
    num_swaps: int,
    num_more: int,
) -> dict[str, object]:
    running_load = RunningLoad(load, users)
    time.sleep(WARM_UP_S + 5)
    moves = _swap(registry, num_swaps)
    settled = _memory(server)
    num_refused = sum(
        _is_refused(registry, (UNSEALED, SEALED)[place % 2]) for place in range(NUM_FAILING)
    )
    refused_until_s = time.perf_counter()
    more = _swap(registry, num_more)
    time.sleep(5)
    running_load.stop()
    records = running_load.records()
    records = records[records["scheduled_s"] >= records["scheduled_s"].min() + WARM_UP_S]
    moves += more
    windows, taken_ms = in_windows(records, moves), latencies_ms(records)
    # Damaged releases are tried between the two rounds: neither steady nor a swap.
    first_more_s = more[0].began_s if more else refused_until_s
    is_tried = (records["scheduled_s"] > moves[num_swaps - 1].acknowledged_s + AFTER_S) & (
        records["scheduled_s"] < first_more_s
    )
    return {
        "rate": round(load.rate, 1),
        "num_requests": len(records),
        "num_moves": len(moves),
        "num_refused": num_refused,
        "num_degraded": int(records["is_degraded"].sum()),
        "faults": vars(faults_of(records, moves, pages, VERSIONS[0])),
        "answers_by_release": {
            str(version): int((records["release"] == version).sum()) for version in VERSIONS
        },
        "move_took_s": _spread([one.took_s for one in moves if one.kind == "move"]),
        "rollback_took_s": _spread([one.took_s for one in moves if one.kind == "rollback"]),
        "steady_ms": _spread(taken_ms[~windows & ~is_tried]),
        "in_swap_windows_ms": _spread(taken_ms[windows]),
        "while_damaged_were_tried_ms": _spread(taken_ms[is_tried]),
        "memory_settled_mib": settled,
        "memory_after_mib": _memory(server),
    }


def _swap(registry: Path, count: int) -> list[Move]:
    """To the second release by a move, back by a rollback, and so on."""
    chance, moves = random.Random(0), []
    for number in range(count):
        is_there = number % 2 == 1
        moves.append(roll_back(registry) if is_there else move_to(registry, VERSIONS[1]))
        time.sleep(PAUSE_S * (0.5 + chance.random()))
        if number % 10 == 9:
            _say(f"{number + 1} swaps, the last took {moves[-1].took_s:.2f} s")
    return moves


def _is_refused(registry: Path, version: int) -> bool:
    try:
        move_to(registry, version)
    except ReleaseError as error:
        _say(f"refused: {str(error)[:120]}")
        return True
    return False


def _highest_rate(server: Served, users: Path) -> float:
    def is_borne(rate: float) -> bool:
        load = Load(url=server.url, rate=rate, seconds=15 + WARM_UP_S)
        told = measured(load, users, warm_up_s=WARM_UP_S)
        _say(told.to_text())
        return told.is_borne

    return highest_rate(is_borne, start=40.0, precision=0.1)


def _memory(server: Served) -> dict[str, float]:
    return {what: round(server.memory_mib(what), 1) for what in ("VmRSS", "RssAnon")}


def _spread(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "most": 1.0}
    return {name: round(float(np.quantile(values, at)), 3) for name, at in shares.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
