"""Runs a function in several processes that form a group, over gloo on loopback."""

import multiprocessing
import socket
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import distributed

from upnext.training.group import ALONE, Group

TIMEOUT_S = 120.0

Work = Callable[[Group], Any]


def together(num_workers: int, work: Work, *, shard_above_rows: int | None = None) -> list[Any]:
    """What `work` gives at each of so many workers; one of them is this very process's fork.

    Raises: RuntimeError: one of them failed.
    """
    if num_workers == 1:
        return [work(ALONE)]
    context = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends = [context.Pipe(duplex=False) for _ in range(num_workers)]
    processes = [
        context.Process(
            target=_live, args=(Group(rank, num_workers, shard_above_rows), port, work, sender)
        )
        for rank, (_, sender) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    for _, sender in ends:
        sender.close()
    try:
        answers = [_answer(receiver) for receiver, _ in ends]
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return answers


def _answer(receiver: Connection) -> Any:
    if not receiver.poll(TIMEOUT_S):
        raise RuntimeError("a worker said nothing")
    try:
        failed, answer = receiver.recv()
    except EOFError:
        raise RuntimeError("a worker died") from None
    if failed:
        raise RuntimeError(answer)
    return answer


def _live(group: Group, port: int, work: Work, sender: Connection) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=group.rank,
        world_size=group.size,
        timeout=timedelta(seconds=TIMEOUT_S),
    )
    try:
        sender.send((False, work(group)))
    except BaseException as error:
        sender.send((True, f"{type(error).__name__}: {error}"))
    finally:
        distributed.destroy_process_group()
