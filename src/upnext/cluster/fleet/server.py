"""A program: the ordinary server, as an actor runs it. Its settings come by its standard input.

It is a process of its own, so that Ray costs its answers nothing and it ends as it always does; its
sockets are the actor's, and it ends when the actor does.
"""

import sys
from pathlib import Path

import msgspec

from upnext.config import config_from_table
from upnext.recommender.warm import OpensWarm
from upnext.serving.config import ServingConfig
from upnext.serving.server import serve


def main() -> None:
    """Serves until it is told to end. Argument: the registry."""
    registry = Path(sys.argv[1])
    table = msgspec.json.decode(sys.stdin.buffer.read())
    config = config_from_table(table, ServingConfig, where="the front's settings")
    opens = OpensWarm(registry, max_batch=config.queue.max_batch)
    serve(registry, opens, config, command=(), say=_say)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
