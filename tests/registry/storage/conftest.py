"""Storage of three kinds: a real S3 on loopback, a directory, and the memory of this process."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from upnext.registry.release import Release, publish
from upnext.registry.storage.objects import Storage, open_storage

KINDS = ("memory", "file", "s3")
NUM_FILES = 5


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a bucket, whose server lives for a module."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    backend, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def answer(environment: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        # It looks whether an object is there, then writes it; S3 does both in one step.
        with one_at_a_time:
            return list(backend(environment, start))

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        open_storage("s3://shelf").fs.makedirs("shelf", exist_ok=True)
        yield "s3://shelf"
    server.shutdown()
    server.server_close()


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
