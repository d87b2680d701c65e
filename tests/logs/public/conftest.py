"""Where the real data lie, if they do."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Gives the folder of a real data set, or skips the test where it is absent."""
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    home = Path(os.environ.get("UPNEXT_DATA", beside))

    def folder(name: str) -> Path:
        if not (home / name).is_dir():
            pytest.skip(f"no real data: set UPNEXT_DATA to a folder that holds {name}")
        return home / name

    return folder
