"""What each worker of a training holds in memory of its own, tables copied and tables sharded.

    python benchmarks/scale.py DIRECTORY --num-watches 3000000 --num-users 150000 --step make
    python benchmarks/scale.py DIRECTORY --step prepare
    python -m benchmarks.worker_memory DIRECTORY/prepared

A short epoch of retrieval on 1, 2 and 4 real Ray nodes. Anonymous memory, at most and at the end,
is that of each worker alone; what is mapped from files is shared by all workers of a node and can
be dropped. A line of JSON for each crew.
"""

import argparse
import json
import os
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.ray_training import nodes

from upnext.cluster.training import RayCrew
from upnext.examples.encoder import ExamplesConfig
from upnext.examples.prepared import open_prepared
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval
from upnext.training.group import ALONE, Group
from upnext.training.logbook import Logbook

SHARDED_ABOVE_ROWS = 1_000
LOOK_EVERY_S = 0.05
CONFIG = RetrievalConfig(
    optimizer="row_adam", num_epochs=1, batch_size=2_048, examples_per_user=1, precision="float32"
)


def main() -> None:
    """Prints a line of JSON for each crew."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prepared", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logs = open_prepared(arguments.prepared)
    encoder = logs.encoder(logs.everything, ExamplesConfig())
    history = logs.history(encoder, logs.everything)
    training = partial(train_retrieval, encoder, history, None, CONFIG)
    for number in (1, 2, 4):
        with nodes(number):
            for limit in (None, SHARDED_ABOVE_ROWS) if number > 1 else (None,):
                with tempfile.TemporaryDirectory() as directory:
                    watched = partial(watching_memory, training, Path(directory))
                    crew = RayCrew(num_workers=number, shard_above_rows=limit)
                    logbook = Logbook(directory=Path(directory) / "run")
                    crew(watched, on_epoch=print, logbook=logbook)
                    told = [
                        json.loads(path.read_text(encoding="utf-8"))
                        for path in sorted(Path(directory).glob("worker-*.json"))
                    ]
                line = {
                    "workers": number,
                    "sharded": limit is not None,
                    "num_items": encoder.catalogue.num_rows,
                    **{name: [one[name] for one in told] for name in told[0]},
                }
                print(json.dumps(line), flush=True)


def watching_memory(
    training: "partial[TrainedRetrieval]",
    directory: Path,
    *,
    on_epoch: Any,  # noqa: ARG001
    logbook: Logbook,
    group: Group = ALONE,
) -> TrainedRetrieval:
    """Trains; each worker writes what it held."""
    if list(directory.glob("worker-*.json")):  # the driver only reads what was learned
        return training(on_epoch=lambda _: None, logbook=logbook, group=group)
    before, most, ends = own_mib(), [0], threading.Event()

    def look() -> None:
        while not ends.wait(LOOK_EVERY_S):
            most[0] = max(most[0], own_mib())

    threading.Thread(target=look, daemon=True).start()
    trained = training(on_epoch=lambda _: None, logbook=logbook, group=group)
    ends.set()
    tables = [trained.model.watch_table.weight, trained.model.item_table.weight]
    told = {
        "rows_held": len(tables[0]),
        "tables_mib": sum(table.nbytes for table in tables) >> 20,
        "before_mib": before,
        "most_mib": most[0],
        "end_mib": own_mib(),
    }
    (directory / f"worker-{group.rank}.json").write_text(json.dumps(told), encoding="utf-8")
    return trained


def own_mib() -> int:
    """Anonymous memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) >> 10


if __name__ == "__main__":
    main()
