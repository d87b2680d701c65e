"""A program: `serve` on releases without a model, whose answers a test can hold.

Arguments: registry, processes. While a file `hold` lies in the registry, each answer writes a file
`begun` and waits for a file `go`.
"""

import sys
import time
from pathlib import Path

from tests.patience import SOON_S
from tests.serving.conftest import FakeReleases

from upnext.serving.config import HttpConfig, ServingConfig
from upnext.serving.server import serve


def main() -> None:
    registry, num_processes = Path(sys.argv[1]), int(sys.argv[2])

    def hold() -> None:
        by_s = time.monotonic() + SOON_S
        if (registry / "hold").exists():
            (registry / "begun").touch()
            while not (registry / "go").exists() and time.monotonic() < by_s:
                time.sleep(0.01)

    serve(
        registry,
        FakeReleases(on_request=dict.fromkeys((1, 2), hold)).open,
        ServingConfig(http=HttpConfig(port=0, num_processes=num_processes)),
        command=[sys.executable, "-m", "tests.serving.serving_fakes", *sys.argv[1:]],
        say=lambda text: print(text, flush=True),
    )


if __name__ == "__main__":
    main()
