"""Of the processes of a machine one does a thing at a time, also where one of them is killed."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.patience import SOON_S

from upnext.registry.turns import alone

HOLDS = """
import sys, time
from pathlib import Path
from upnext.registry.turns import alone
with alone(Path(sys.argv[1]), "working"):
    print("inside", flush=True)
    time.sleep(1_000)
"""


def test_only_one_is_inside_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with alone(tmp_path, "working"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert most == [1] * 80


def test_a_process_that_is_killed_loses_its_turn_to_whoever_waits(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    is_inside = threading.Event()

    def wait() -> None:
        with alone(tmp_path, "working"):
            is_inside.set()

    waiting = threading.Thread(target=wait, daemon=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "inside\n"
        waiting.start()
        with alone(tmp_path, "something else"):  # which nobody does
            assert not is_inside.is_set()
    finally:
        holder.kill()
        holder.communicate(timeout=SOON_S)
    assert is_inside.wait(SOON_S)
    waiting.join(SOON_S)


def test_where_nothing_can_be_written_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("no directory")
    with alone(tmp_path, "working"), alone(tmp_path, "working"):
        assert (tmp_path / "servers").is_file()


def test_nobody_waits_for_ever_for_one_that_is_stopped(tmp_path: Path) -> None:
    with alone(tmp_path, "working"):  # as if for ever
        began_s = time.monotonic()
        with alone(tmp_path, "working", longest_s=0.1):
            assert time.monotonic() - began_s > 0.1
