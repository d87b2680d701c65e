"""The same training on an accelerator: does it learn the same, how fast, how near the roof?

    python -m benchmarks.accelerator            # all of it, each part a process of its own
    python -m benchmarks.accelerator --part retrieval

`roof`: what this device multiplies and copies. `losses`: the first losses in float32, on the device
and, as though there were none, on the CPU. `retrieval`, `attention`, `ranking`: examples a second
of steps as training takes them, drawing and feeding included; the share of the time in which the
device works; and how much the loss and the dense layers multiply, what attention itself does not
counted. Without a device the CPU is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import torch

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.impressions import build_impression_examples
from upnext.examples.watches import build_watch_examples
from upnext.logs.read import read_logs
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.step import RankingTask
from upnext.retrieval.attention import AttentionConfig
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.step import RetrievalTask
from upnext.retrieval.train import new_model
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import ITEM_COLUMNS, KIND_DTYPES, Items, Logs, Watches
from upnext.training.group import ALONE
from upnext.training.task import Batch, Task

FIRST_MS, LAST_MS = 1_780_000_000_000, 1_785_184_000_000
NUM_WARM, NUM_TIMED, NUM_PROFILED, NUM_COMPARED = 15, 60, 10, 50
SECONDS_AT_MOST = 6.0
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Prints a line of JSON for each measurement."""
    parts: dict[str, Callable[[], None]]
    parts = {"roof": roof, "losses": compare_losses, "retrieval": retrieval}
    parts |= {"attention": attention, "ranking": ranking, "told-losses": tell_losses}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", choices=parts)
    arguments = parser.parse_args()
    if arguments.part is not None:
        parts[arguments.part]()
        return
    for name in ("roof", "losses", "retrieval", "attention", "ranking"):
        subprocess.run([sys.executable, "-m", "benchmarks.accelerator", "--part", name], check=True)


def roof() -> None:
    """The greatest of a few: TFLOP/s of a square product, GB/s of a copy, read and written."""
    size = 8_192 if DEVICE.type == "cuda" else 2_048
    a, b = (torch.randn(size, size, device=DEVICE).to(torch.bfloat16) for _ in range(2))
    product_s = min(_seconds(lambda: a @ b) for _ in range(10))
    source = torch.randn(2**28 if DEVICE.type == "cuda" else 2**24, device=DEVICE)
    target = torch.empty_like(source)
    copy_s = min(_seconds(lambda: target.copy_(source)) for _ in range(10))
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    tflop_per_s = 2 * size**3 / product_s / 1e12
    _tell("roof", device=name, tflop_per_s=tflop_per_s, gb_per_s=8 * source.numel() / copy_s / 1e9)


def tell_losses() -> None:
    """The first losses of a full softmax, which draws nothing, in float32."""
    losses = {}
    for history in ("average", "attention"):
        task, _ = _retrieval_task(
            num_items=2_000,
            num_watches=100_000,
            config=RetrievalConfig(
                loss="full_softmax",
                precision="float32",
                network=RetrievalNetworkConfig(
                    history=history,
                    activation="silu",
                    attention=AttentionConfig(dropout=0.0),
                ),
            ),
        )
        batches = task.batches(0)[:NUM_COMPARED]
        losses[history] = [float(task.step(batch, learning_rate=0.002)) for batch in batches]
    print(json.dumps(losses), flush=True)


def compare_losses() -> None:
    """How far the two devices are apart, at most, in their first losses."""
    told = []
    for environment in ({}, {"CUDA_VISIBLE_DEVICES": ""}):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.accelerator", "--part", "told-losses"],
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, **environment},
        )
        told.append(json.loads(done.stdout))
    for history in told[0]:
        here, there = (np.array(one[history]) for one in told)
        _tell(
            "losses",
            history=history,
            first=here[0],
            last=here[-1],
            apart=float(np.abs(here - there).max()),
        )


def retrieval() -> None:
    """Averages, 2,000 negatives, as the default is; a small table and one of a million rows."""
    for num_items, batch_sizes in ((100_000, (1_024, 8_192, 65_536)), (1_000_000, (8_192, 65_536))):
        for batch_size in batch_sizes:
            config = RetrievalConfig(batch_size=batch_size, examples_per_user=0)
            task, num_weights = _retrieval_task(
                num_items=num_items, num_watches=4_000_000, config=config
            )
            products = 3 * 2 * config.num_negatives * config.network.vector_size
            flop = products + 3 * 2 * num_weights
            _measure("retrieval", task, batch_size, flop, num_items=num_items)


def attention() -> None:
    """Self-attention over 200 watches, 128 wide, full softmax over 3,400 items."""
    for batch_size in (2_048, 16_384):
        config = RetrievalConfig(
            batch_size=batch_size,
            examples_per_user=0,
            loss="full_softmax",
            network=RetrievalNetworkConfig(
                vector_size=128, embedding_size=128, history="attention", tied=True
            ),
        )
        task, num_weights = _retrieval_task(
            num_items=3_400, num_watches=1_000_000, config=config, num_slots=200
        )
        flop = 3 * 2 * (3_400 * 128 + num_weights)
        _measure("attention", task, batch_size, flop)


def ranking() -> None:
    """The paper's deepest network on a small simulated platform."""
    with TemporaryDirectory() as directory:
        simulate(SimulationConfig(num_users=400, num_items=1_000, num_days=8), Path(directory))
        logs, _ = read_logs(Path(directory))
    assert logs.impressions is not None
    encoder, users = build_encoder(logs, ExamplesConfig()), user_vocabulary(logs)
    history = encoder.history(logs, users)
    examples = build_impression_examples(encoder, history, users, logs.impressions)
    for num_requests in (400, 3_200):
        network = RankingNetworkConfig(hidden_sizes=(1_024, 512, 256))
        config = RankingConfig(network=network, requests_per_batch=num_requests, source_parts=0)
        task = RankingTask(encoder, examples, None, config)
        of_layers = sum(
            weight.numel()
            for name, weight in task.model.named_parameters()
            if ("layers" in name or "candidate_layer" in name) and weight.dim() == 2
        )
        size = task.num_examples(task.batches(0)[0])
        _measure("ranking", task, size, 3 * 2 * of_layers)


def _retrieval_task(
    *, num_items: int, num_watches: int, config: RetrievalConfig, num_slots: int = 50
) -> tuple[RetrievalTask, int]:
    """On random watches, a hundred a user; and how many weights of the tower an example meets."""
    encoder, history = _platform(num_items, num_watches, num_slots)
    query_encoder, examples = build_watch_examples(encoder, history, completed_share=0.0)
    torch.manual_seed(config.seed)
    model = new_model(query_encoder, examples, config, ALONE)
    trained = TrainedRetrieval(model, query_encoder)
    task = RetrievalTask(trained, examples, None, config, mask_watched=False)
    dense = (weight for weight in model.tower.parameters() if weight.dim() == 2)
    return task, sum(weight.numel() for weight in dense)


def _platform(num_items: int, num_watches: int, num_slots: int) -> tuple[Encoder, History]:
    """Items popular as 1 / rank, each watched at least once."""
    generator = np.random.default_rng(7)
    items = np.concatenate(
        [np.arange(num_items), num_items ** generator.random(num_watches - num_items)]
    )
    watches = pl.DataFrame(
        {
            "user_id": generator.integers(0, num_watches // 100, num_watches),
            "item_id": generator.permutation(items.astype(np.int64) % num_items),
            "started_at_ms": np.sort(generator.integers(FIRST_MS, LAST_MS, num_watches)),
            "watch_time_s": np.ones(num_watches, np.float32),
        }
    )
    dtypes = {name: KIND_DTYPES[column.kind][0] for name, column in ITEM_COLUMNS.items()}
    table = pl.DataFrame({"item_id": np.arange(num_items)}).with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in dtypes.items() if name != "item_id"
    )
    logs = Logs(watches=Watches(watches), items=Items(table))
    encoder = build_encoder(logs, ExamplesConfig(num_watches=num_slots))
    return encoder, encoder.history(logs, user_vocabulary(logs))


def _measure(name: str, task: Task, batch_size: int, flop: float, **facts: int) -> None:
    """Warm, then timed, then profiled; `flop`: of matrix products, an example's."""
    batches: Sequence[Batch] = task.batches(0)
    step = 0

    def steps(number: int) -> int:
        nonlocal step
        count, by_s = 0, time.perf_counter() + SECONDS_AT_MOST
        for _ in range(number):
            batch = batches[step % len(batches)]
            loss = task.step(batch, learning_rate=0.001)
            count, step = count + task.num_examples(batch), step + 1
            if time.perf_counter() > by_s:
                break
        float(loss)
        return count

    steps(NUM_WARM)
    began = time.perf_counter()
    per_s = steps(NUM_TIMED) / (time.perf_counter() - began)
    told = {"examples_per_s": per_s, "ms_a_step": 1e3 * batch_size / per_s}
    if DEVICE.type == "cuda":
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            count = steps(NUM_PROFILED)
        busy_s = sum(one.self_device_time_total for one in profile.key_averages()) / 1e6
        told |= {
            "busy": busy_s / count * per_s,
            "kernels_a_step": sum(one.count for one in profile.key_averages()) / NUM_PROFILED,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        }
    _tell(name, batch_size=batch_size, tflop_per_s=flop * per_s / 1e12, **told, **facts)


def _seconds(work: Callable[[], object]) -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _tell(part: str, **facts: float | str) -> None:
    rounded = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in facts.items()
    }
    print(json.dumps({"part": part, **rounded}), flush=True)


if __name__ == "__main__":
    main()
