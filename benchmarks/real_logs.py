"""From an official download to a measured release: import, train, evaluate.

    python benchmarks/real_logs.py movielens-100k ml-100k
    python benchmarks/real_logs.py globo globo-g1
    python benchmarks/real_logs.py movielens-1m ml-1m --settings movielens-1m-attention
    python benchmarks/real_logs.py amazon-sequences amazon-s3rec/Beauty.txt.gz

The folder is looked for in UPNEXT_DATA, or else in ../shared/data beside the checkout. How to learn
stands in the TOML file of the data set's name beside this script, unless another is named.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from upnext import RunConfig, evaluate, load_public, read_config, train, write_logs

HERE = Path(__file__).parent
DATA = Path(os.environ.get("UPNEXT_DATA", HERE.parent.parent / "shared" / "data"))


def main() -> None:
    """Prints the report; progress and times go to stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", help="data set, as `upnext import` calls it")
    parser.add_argument("folder", help="folder of its files, inside UPNEXT_DATA")
    parser.add_argument("--settings", help="name of another TOML file beside this script")
    arguments = parser.parse_args()
    source = DATA / arguments.folder
    if not source.exists():
        sys.exit(f"{source}: not there; set UPNEXT_DATA to the folder that holds it.")
    config = read_config(HERE / f"{arguments.settings or arguments.name}.toml", RunConfig)
    began = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:7.1f} s  {line}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as directory:
        logs, registry = Path(directory) / "logs", Path(directory) / "registry"
        write_logs(load_public(arguments.name, source), logs)
        release = train(logs, registry, config, say=say)
        print(evaluate(logs, registry, release.version, say=say).to_text())
        say("done")


if __name__ == "__main__":
    main()
