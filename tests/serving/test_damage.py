"""Whichever file of a release is damaged: it is refused by its name, and the old one serves on."""

from __future__ import annotations

import hashlib
import json
import pickle  # what an attacker would plant; nothing here or in upnext ever reads one
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.errors import ReleaseError
from upnext.recommender.warm import open_warm
from upnext.registry.labels import journal_path, read_labels
from upnext.registry.moves import load_release, move_label
from upnext.registry.release import open_release
from upnext.schema import RecommendationRequest
from upnext.serving.following import Following
from upnext.serving.releases import LiveReleases

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


class _Planted:
    """Tells that it was unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a planted pickle ran",)


@pytest.fixture(scope="module")
def registry(tiny_release: TrainedRelease, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1 is whole; release 2 is its copy under another number, to be tampered with."""
    registry = tmp_path_factory.mktemp("damage") / "registry"
    shutil.copytree(tiny_release.registry, registry)
    shutil.copytree(registry / "releases/1", registry / "releases/2")
    second = registry / "releases/2"
    for path in [second, *second.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    manifest = json.loads((second / "manifest.json").read_bytes())
    _seal(second, {**manifest, "version": 2})
    open_release(registry, 2)
    return registry


@pytest.fixture(scope="module")
def live(registry: Path) -> Iterator[LiveReleases]:
    live = LiveReleases(lambda version: open_warm(registry, version))
    with Following(live, registry, look_every_s=0.005) as following:
        move_label(registry, "stable", 1)
        assert following.wait(60)
        yield live


def _seal(release: Path, manifest: object) -> None:
    content = json.dumps(manifest).encode()
    (release / "manifest.json").write_bytes(content)
    seal = f"{hashlib.sha256(content).hexdigest()}  manifest.json\n"
    (release / "manifest.sha256").write_text(seal, encoding="utf-8")


def _refused(live: LiveReleases, registry: Path, name: str) -> None:
    journal = journal_path(registry).read_bytes()
    for do in (load_release, lambda where, two: move_label(where, "stable", two)):
        with pytest.raises(ReleaseError) as refused:
            do(registry, 2)
        assert name in str(refused.value)
    with pytest.raises(ReleaseError):
        live.load(2)
    live.forget(2)
    assert journal_path(registry).read_bytes() == journal
    assert read_labels(registry) == {"stable": 1}
    with live.acquire("stable") as route:
        assert len(route.recommender.recommend(RecommendationRequest(k=3)).items) == 3


def test_a_flipped_bit_in_any_file_is_refused(registry: Path, live: LiveReleases) -> None:
    chance = random.Random(5)
    names = [*open_release(registry, 2).files, "manifest.json", "manifest.sha256"]
    assert len(names) > 20
    for name in names:
        path = registry / "releases/2" / name
        whole = path.read_bytes()
        if not whole:
            continue
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        _refused(live, registry, "manifest.json" if name == "manifest.sha256" else name)
        path.write_bytes(whole)
    open_release(registry, 2)


def test_a_pickle_in_place_of_any_array_is_refused_even_if_it_is_sealed(
    registry: Path, live: LiveReleases
) -> None:
    second = registry / "releases/2"
    manifest = json.loads((second / "manifest.json").read_bytes())
    objects = np.array([_Planted()], dtype=object)
    names = [name for name in manifest["files"] if name.endswith(".npy")]
    for place, name in enumerate(names):
        path = second / name
        whole = path.read_bytes()
        if place % 2:
            np.save(path, objects)
        else:
            path.write_bytes(pickle.dumps(_Planted()))
        planted = path.read_bytes()
        entry = {"size_bytes": len(planted), "sha256": hashlib.sha256(planted).hexdigest()}
        _seal(second, {**manifest, "files": {**manifest["files"], name: entry}})
        _refused(live, registry, name)
        path.write_bytes(whole)
        _seal(second, manifest)
    open_release(registry, 2)


@pytest.mark.parametrize("name", ["extra.pkl", "retrieval/extra.npy", "a.py"])
def test_a_planted_file_is_refused(registry: Path, live: LiveReleases, name: str) -> None:
    path = registry / "releases/2" / name
    path.write_bytes(pickle.dumps(_Planted()))
    _refused(live, registry, name)
    path.unlink()


def test_once_whole_again_it_takes_the_label(registry: Path, live: LiveReleases) -> None:
    move_label(registry, "stable", 2)
    assert live.state.labels == {"stable": 2}
    assert live.state.problems == {}
