"""Storage of three kinds: a real S3 on loopback, a directory, and the memory of this process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from upnext.registry.release import Release, publish
from upnext.registry.storage.objects import Storage, open_storage

KINDS = ("memory", "file", "s3")
NUM_FILES = 5


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of its own on storage of each kind."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{uuid4().hex}"
    if request.param == "file":
        return f"file://{tmp_path}/shared/place"
    return f"memory://{uuid4().hex}"


@pytest.fixture
def storage(url: str) -> Storage:
    return open_storage(url)


def write(directory: Path) -> Mapping[str, Any]:
    """Five files in two folders, one of them empty."""
    (directory / "items").mkdir()
    for number in range(NUM_FILES - 2):
        np.save(directory / f"items/{number}.npy", np.arange(100 * number, dtype=np.float32))
    (directory / "config.json").write_text('{"vector_size": 3}', encoding="utf-8")
    (directory / "empty.txt").touch()
    return {"num_items": 3}


def writer(text: str) -> Callable[[Path], Mapping[str, Any]]:
    def write_text(directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").write_text(text, encoding="utf-8")
        (directory / "b.txt").write_text("the same in all", encoding="utf-8")
        return {}

    return write_text


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """With one release."""
    publish(tmp_path / "registry", write)
    return tmp_path / "registry"


def contents(release: Release) -> dict[str, bytes]:
    """All files of a release, manifest and seal among them."""
    paths = [path for path in release.path.rglob("*") if path.is_file()]
    return {path.relative_to(release.path).as_posix(): path.read_bytes() for path in paths}
