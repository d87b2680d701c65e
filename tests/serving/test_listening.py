"""A server ends when it is told to, whenever that is, and says nothing of it."""

import subprocess
import sys

from tests.patience import SOON_S

TOLD_BEFORE_IT_RUNS = """
import uvicorn, uvicorn.server
from upnext.serving.listening import ended_by_signals, run

def interrupted(coroutine, **_):
    raise KeyboardInterrupt

uvicorn.server.asyncio_run = interrupted
with ended_by_signals():
    run(uvicorn.Server(uvicorn.Config(lambda: None)), [])
print("ended")
"""


def test_a_signal_that_comes_before_the_loop_runs_ends_it_without_a_word() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOLD_BEFORE_IT_RUNS],
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
