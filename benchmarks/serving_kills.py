"""What is left after `kill -9`, a hundred times at random?

    python -m benchmarks.serving_kills REGISTRY [--num-kills 100] [--without-events]

REGISTRY is one of `million_release`, or a smaller one, in which restarts are quicker; a copy by
links is served, with a live store in SQLite. Each round kills at a random moment, in turns:

    events     the server, while clients post batches, some of them again
    loads      the server, while it loads the release that the label has just moved to
    moves      who moves the label, `upnext label`, at any moment from its start on

and then starts what was killed anew. In the end, and after each move: every event that was
acknowledged is in the store once (read with SQLite itself, which upnext is no part of), whatever it
was acknowledged as, and nothing is there that was never sent; the journal reads, and the label
stands at the old or at the new version, at the new one if the move was acknowledged; the server
answers from that version. `--without-events` leaves the store out.
"""

import argparse
import contextlib
import http.client
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from benchmarks.label_moves import LABEL, readiness
from benchmarks.serving_processes import (
    Served,
    free_port,
    linked_registry,
    start,
    stop,
    upnext_command,
    write_users,
)

from upnext.examples.encoder import now_ms
from upnext.registry.labels import read_labels

VERSIONS = (1, 2)
BATCH_SIZE, NUM_CLIENTS, REPEATED_SHARE = 20, 3, 0.2
EVENTS_FOR_S, BEYOND = 1.0, 1.2
"""A kill comes at a moment evenly drawn from 0 to this: while events are posted, in seconds; of a
load or a move, as a share of the time that a move took that nobody killed."""
FOLLOWED_WITHIN_S = 60.0


@dataclass(kw_only=True)
class Ledger:
    """What clients have sent, and what of it was acknowledged."""

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    num_refused: int = 0


class Client(threading.Thread):
    """Posts batches of watches until it is stopped; now and then one again that went before."""

    def __init__(self, name: str, url: str, users: Sequence[str], ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self._prefix, self._users, self._ledger = name, users, ledger
        where = urlsplit(url)
        self._address = (where.hostname or "", where.port)
        self._stopped = threading.Event()
        self._chance = random.Random(name)
        self._batches: list[list[dict[str, object]]] = []

    def stop(self) -> None:
        """After the batch under way."""
        self._stopped.set()

    def run(self) -> None:
        """Until stopped; a server that is gone is tried again."""
        connection = http.client.HTTPConnection(*self._address, timeout=10)
        while not self._stopped.is_set():
            batch = self._next()
            ids = {str(event["event_id"]) for event in batch}
            self._ledger.sent.update(ids)
            try:
                body, headers = json.dumps({"events": batch}), {"Content-Type": "application/json"}
                connection.request("POST", "/v1/events", body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.05)
                continue
            if answer.status in (200, 202):
                self._ledger.acknowledged.update(ids)
            else:
                self._ledger.num_refused += 1
                time.sleep(0.02)

    def _next(self) -> list[dict[str, object]]:
        """A new batch, or an old one, as good clients send what was not acknowledged again."""
        if self._batches and self._chance.random() < REPEATED_SHARE:
            return self._chance.choice(self._batches[-5:])
        batch = [
            {
                "kind": "watch",
                "event_id": f"{self._prefix}-{len(self._batches)}-{place}",
                "user_id": self._chance.choice(self._users),
                "item_id": f"v{self._chance.randrange(1_000):07}",
                "started_at_ms": now_ms() - self._chance.randrange(60_000),
                "watch_time_s": round(self._chance.uniform(1, 300), 3),
            }
            for place in range(BATCH_SIZE)
        ]
        self._batches.append(batch)
        return batch


@dataclass(kw_only=True)
class Trial:
    """The server that is killed again and again, and all that was seen."""

    registry: Path
    store: Path | None
    users: Sequence[str]
    port: int
    chance: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    faults: list[str] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)
    num_kills: dict[str, int] = field(default_factory=dict)
    num_movers_killed: int = 0
    num_moves_taken: int = 0

    def __post_init__(self) -> None:
        self._server = self._start()
        self._num_clients = 0
        self._mover: subprocess.Popen[bytes] | None = None
        began_s = time.perf_counter()
        subprocess.run(self._label_command(VERSIONS[1]), check=True, stderr=subprocess.DEVNULL)
        self.move_s = time.perf_counter() - began_s

    def round(self, kind: str) -> None:
        """One kill."""
        clients = self._clients()
        match kind:
            case "events":
                time.sleep(self.chance.uniform(0, EVENTS_FOR_S))
                self._kill_server()
            case "loads":
                self._begin_move()
                time.sleep(self.chance.uniform(0, BEYOND * self.move_s))
                self._kill_server()
            case "moves":
                self._kill_mover()
        for client in clients:
            client.stop()
        for client in clients:
            client.join(30)
        self.num_kills[kind] = self.num_kills.get(kind, 0) + 1
        if self._server.process.poll() is not None:
            self._server = self._start()
            self.restarts_s.append(self._server.started_in_s)
        if self._mover is not None:
            self._mover.wait(FOLLOWED_WITHIN_S)
            self._mover = None
        self._check_labels()

    def end(self) -> None:
        """Stops the server in peace and looks at the store."""
        stop(self._server)
        if self.store is not None:
            self.faults += store_faults(self.store, self.ledger)

    def _start(self) -> Served:
        options = [] if self.store is None else ["--config", str(self.registry / "serve.toml")]
        return start(upnext_command(self.registry, self.port, options), self.port)

    def _clients(self) -> list[Client]:
        if self.store is None:
            return []
        clients = []
        for _ in range(NUM_CLIENTS):
            name = f"c{self._num_clients}"
            clients.append(Client(name, self._server.url, self.users, self.ledger))
            self._num_clients += 1
        for client in clients:
            client.start()
        return clients

    def _kill_server(self) -> None:
        self._server.kill()

    def _other_version(self) -> int:
        return VERSIONS[1] if read_labels(self.registry)[LABEL] == VERSIONS[0] else VERSIONS[0]

    def _begin_move(self) -> None:
        """In a process of its own, which may still wait for the server when that is killed."""
        command = self._label_command(self._other_version())
        self._mover = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def _kill_mover(self) -> None:
        before, wanted = read_labels(self.registry)[LABEL], self._other_version()
        mover = subprocess.Popen(self._label_command(wanted), stderr=subprocess.DEVNULL)
        try:
            mover.wait(self.chance.uniform(0, BEYOND * self.move_s))
        except subprocess.TimeoutExpired:
            mover.kill()
            self.num_movers_killed += 1
        is_acknowledged = mover.wait() == 0
        after = read_labels(self.registry)[LABEL]
        self.num_moves_taken += after == wanted and not is_acknowledged
        if after not in (before, wanted):
            self.faults.append(f"the label stands at {after}, neither {before} nor {wanted}")
        if is_acknowledged and after != wanted:
            self.faults.append(f"a move to {wanted} was acknowledged, the label is at {after}")

    def _label_command(self, version: int) -> list[str]:
        command = [sys.executable, "-m", "upnext", "label", str(self.registry), LABEL]
        return [*command, str(version)]

    def _check_labels(self) -> None:
        """The server comes to stand where the journal says. A mover may still be at work."""
        deadline_s = time.perf_counter() + FOLLOWED_WITHIN_S
        while time.perf_counter() < deadline_s:
            told = readiness(self._server.url)["labels"].get(LABEL)
            if told == read_labels(self.registry)[LABEL]:
                return
            time.sleep(0.05)
        self.faults.append(f"the server says {told}, the journal {read_labels(self.registry)}")


def main() -> None:
    """Prints JSON; exit status 1 where anything was lost, doubled or in between."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--num-kills", type=int, default=100)
    parser.add_argument("--without-events", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = ["loads", "moves"] if arguments.without_events else ["events", "loads", "moves"]
    with tempfile.TemporaryDirectory(dir=arguments.registry.parent) as folder:
        registry = linked_registry(arguments.registry, Path(folder), VERSIONS)
        users = write_users(registry, VERSIONS[0], Path(folder) / "users.txt", most=1_000)
        store = None if arguments.without_events else registry / "events.sqlite"
        if store is not None:
            (registry / "serve.toml").write_text(f'[events]\npath = "{store}"\n')
        trial = Trial(
            registry=registry,
            store=store,
            users=users.read_text().split("\n"),
            port=free_port(),
            chance=random.Random(arguments.seed),
        )
        for number in range(arguments.num_kills):
            trial.round(kinds[number % len(kinds)])
            if number % 10 == 9:
                print(f"{number + 1} kills, faults: {trial.faults}", file=sys.stderr, flush=True)
        trial.end()
    print(json.dumps(report_of(trial), indent=2))
    raise SystemExit(1 if trial.faults else 0)


def store_faults(store: Path, ledger: Ledger) -> list[str]:
    """What of the ledger the store does not hold, or holds twice, or holds without reason."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        found = connection.execute("SELECT event_id, count(*) FROM happened GROUP BY 1").fetchall()
    counts = dict(found)
    faults = {
        "acknowledged and lost": sum(one not in counts for one in ledger.acknowledged),
        "counted twice": sum(count > 1 for count in counts.values()),
        "never sent": sum(one not in ledger.sent for one in counts),
    }
    return [f"{count:,} events {what}" for what, count in faults.items() if count]


def report_of(trial: Trial) -> dict[str, object]:
    """What was done and seen."""
    restarts_s = trial.restarts_s or [0.0]
    return {
        "num_kills": trial.num_kills,
        "faults": trial.faults,
        "num_events_acknowledged": len(trial.ledger.acknowledged),
        "num_events_sent": len(trial.ledger.sent),
        "num_batches_refused": trial.ledger.num_refused,
        "move_s": round(trial.move_s, 2),
        "num_movers_killed": trial.num_movers_killed,
        "num_killed_that_had_moved": trial.num_moves_taken,
        "restart_s": {
            "p50": round(float(np.median(restarts_s)), 2),
            "most": round(max(restarts_s), 2),
        },
    }


if __name__ == "__main__":
    main()
