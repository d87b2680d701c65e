"""What does one request cost, alone and answered together with others?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.request_cost REGISTRY

Processor time, since machines are busy, of a release's users at the end of its logs, drawn evenly;
one thread, no server around it.
"""

import argparse
from pathlib import Path
from time import process_time

import numpy as np

from upnext.recommender import Recommender
from upnext.schema import MS_PER_HOUR, RecommendationRequest

NUM_REQUESTS, NUM_WARM_UP = 400, 60
TOGETHER = (1, 2, 4, 8)


def main() -> None:
    """Prints a line for each number of requests that go together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--release", type=int, default=1)
    arguments = parser.parse_args()
    recommender = Recommender.open(arguments.registry, arguments.release, verify=False)
    at_ms = int(recommender.history.watches.at_ms.max()) + MS_PER_HOUR
    rows = np.random.default_rng(0).integers(2, recommender.users.num_rows, NUM_REQUESTS)
    requests = [
        RecommendationRequest(user_id=recommender.users.id(int(row)), k=20, at_ms=at_ms)
        for row in rows
    ]
    for request in requests[:NUM_WARM_UP]:
        recommender.recommend(request)
    for together in TOGETHER:
        began_s = process_time()
        for start in range(0, NUM_REQUESTS, together):
            some = requests[start : start + together]
            answers = recommender.recommend_all(some, [None] * len(some))
        each_ms = (process_time() - began_s) / NUM_REQUESTS * 1e3
        print(f"{together} together: {each_ms:.2f} ms each, {answers[0].num_candidates} candidates")


if __name__ == "__main__":
    main()
