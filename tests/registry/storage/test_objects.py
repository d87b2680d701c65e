"""What releases need of storage: created once, whole, seen at once; errors say what to do."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from upnext.errors import ConfigError
from upnext.registry.storage.objects import BLOCK_BYTES, Storage, StorageError, open_storage


class Careless(MemoryFileSystem):  # type: ignore[misc]
    """Writes over what is there, as servers do that do not know conditional writes."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value)


class Undecided(MemoryFileSystem):  # type: ignore[misc]
    """Refuses the first who comes, and writes nothing, as S3 may where two come at once."""

    num_calls = 0

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self.num_calls += 1
        if self.num_calls == 1:
            cause = Exception()
            cause.response = {"Error": {"Code": "ConditionalRequestConflict"}}  # type: ignore[attr-defined]
            raise OSError("conflict") from cause
        super().pipe_file(path, value, mode=mode)


def test_an_object_is_created_once(storage: Storage) -> None:
    assert storage.create("labels/1", b"first")
    assert not storage.create("labels/1", b"second")
    assert storage.create("labels/1", b"first"), "it may have been this very call"
    assert storage.read("labels/1") == b"first"
    assert storage.sizes_below("labels") == {"1": 5}


def test_of_many_who_come_at_once_one_creates_it(storage: Storage) -> None:
    claims = [(f"labels/{number // 8}", str(number).encode()) for number in range(96)]
    with ThreadPoolExecutor(8) as threads:
        has_won = list(threads.map(lambda claim: storage.create(*claim), claims))
    winners = [claim for claim, won in zip(claims, has_won, strict=True) if won]
    assert [name for name, _ in winners] == [f"labels/{place}" for place in range(12)]
    assert all(storage.read(name) == content for name, content in winners)
    assert len(storage.sizes_below("labels")) == 12, "nothing else is left"


def test_what_others_write_is_seen_at_once(storage: Storage, url: str) -> None:
    assert storage.sizes_below("labels") == {}
    assert open_storage(url).create("labels/1", b"1")
    assert storage.sizes_below("labels") == {"1": 1}
    assert open_storage(url).create("labels/2/3", b"23")
    assert storage.sizes_below("labels") == {"1": 1, "2/3": 2}
    assert storage.sizes_below("label") == {}


@pytest.mark.parametrize("size_bytes", [0, 1, 2 * BLOCK_BYTES + 7])
def test_a_file_is_sent_and_read_back_in_blocks(
    storage: Storage, tmp_path: Path, size_bytes: int
) -> None:
    content = bytes(range(251)) * (size_bytes // 251) + bytes(size_bytes % 251)
    (tmp_path / "file").write_bytes(content)
    told: list[int] = []
    storage.send(tmp_path / "file", "releases/1/file", told.append)
    assert sum(told) == size_bytes
    assert storage.sizes_below("releases/1") == {"file": size_bytes}
    blocks = list(storage.blocks("releases/1/file", size_bytes))
    assert b"".join(blocks) == content
    assert all(len(block) <= BLOCK_BYTES for block in blocks)
    assert (
        b"".join(storage.blocks("releases/1/file", size_bytes, size_bytes // 2))
        == (content[size_bytes // 2 :])
    )


def test_storage_that_creates_once_is_taken(storage: Storage) -> None:
    storage.refuse_overwriting()
    storage.refuse_overwriting()


def test_storage_that_writes_over_what_is_there_is_refused() -> None:
    storage = Storage(url="memory://x", fs=Careless(skip_instance_cache=True), root="/careless")
    with pytest.raises(StorageError, match="got one that writes over it"):
        storage.refuse_overwriting()


def test_who_was_refused_though_nobody_won_comes_again(tmp_path: Path) -> None:
    fs = Undecided(skip_instance_cache=True)
    storage = Storage(url="memory://x", fs=fs, root=f"/undecided{tmp_path}")
    assert storage.create("labels/1", b"first")
    assert storage.read("labels/1") == b"first"


def test_what_is_not_there_is_told(storage: Storage) -> None:
    with pytest.raises(StorageError, match="nowhere/1"):
        storage.read("nowhere/1")


def test_a_bucket_that_is_not_there_is_told(bucket: str) -> None:
    with pytest.raises(StorageError, match="no such bucket") as caught:
        open_storage("s3://elsewhere/place").sizes_below("labels")
    assert "create the bucket" in caught.value.hint
    with pytest.raises(StorageError, match="no such bucket"):
        open_storage("s3://elsewhere/place").create("labels/1", b"")


def test_who_is_not_let_in_is_told_where_credentials_come_from(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(StorageError, match="expected leave to read and write") as caught:
        open_storage(bucket).sizes_below("labels")
    assert "environment, a profile" in caught.value.hint


def test_a_server_that_does_not_answer_is_told(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match="expected an answer") as caught:
        open_storage(bucket).sizes_below("labels")
    assert str(port) in caught.value.got


@pytest.mark.parametrize(
    "url",
    ["s3://key:a-secret@bucket/prefix", "s3://key:a-/secret@bucket", "sftp://me:a-secret@host/x"],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="without credentials") as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["registry", "nothing://here", "simplecache::s3://bucket/x"])
def test_what_is_no_url_of_storage_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        open_storage(url)


def test_a_missing_library_is_told_by_its_extra() -> None:
    program = """
import sys
sys.modules["s3fs"] = None
from upnext.registry.storage.objects import StorageError, open_storage
try:
    open_storage("s3://bucket")
except StorageError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'upnext[s3]'" in told.stdout, told.stderr


def test_nobody_pays_for_storage_who_does_not_use_it() -> None:
    program = """
import sys
import upnext.cli, upnext.registry.storage.mirror, upnext.registry.storage.push
print([name for name in ("fsspec", "s3fs", "botocore", "aiohttp") if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout == "[]\n", told.stderr
