"""The release format, byte by byte. A change here means a new format version."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from upnext.pipeline.item_map import ItemMap
from upnext.registry.release import publish

CREATED_AT = datetime(2026, 8, 3, 12, 30, tzinfo=UTC)

MANIFEST = """\
{
  "format_version": 1,
  "version": 1,
  "created_at": "2026-08-03T12:30:00Z",
  "metadata": {
    "watermark_ms": 1785715200000,
    "metrics": {
      "recall_at_50": 0.25
    },
    "note": "naïve",
    "ranker": null
  },
  "files": {
    "config.json": {
      "size_bytes": 9,
      "sha256": "48f7ca9f6ee41f48d551602d338d93f2efceb1eb10bc7d446673fac8307e3363"
    },
    "items/vectors.npy": {
      "size_bytes": 144,
      "sha256": "bc22d7822e2a38a65cc87b0f571d7b9e7ed9f552dda8153e43a8f59ab5704bbc"
    }
  }
}
"""
SEAL = "f19b020085987c427390a32b01fefd00a4ea50caa15c7ace91177ca04da3ea2a  manifest.json\n"


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "items").mkdir()
    np.save(directory / "items/vectors.npy", np.arange(4, dtype=np.float32).reshape(2, 2))
    (directory / "config.json").write_text('{"d": 2}\n', encoding="utf-8")
    metrics = {"recall_at_50": 0.25}
    return {
        "watermark_ms": 1785715200000,
        "metrics": metrics,
        "note": "naïve",
        "ranker": None,
    }


def test_a_tiny_release_has_these_very_bytes(tmp_path: Path) -> None:
    release = publish(tmp_path, _write, created_at=CREATED_AT)

    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert names == [
        "releases/1/config.json",
        "releases/1/items/vectors.npy",
        "releases/1/manifest.json",
        "releases/1/manifest.sha256",
    ]
    assert (release.path / "manifest.json").read_bytes() == MANIFEST.encode()
    assert (release.path / "manifest.sha256").read_bytes() == SEAL.encode()


def test_a_second_release_differs_in_its_version_alone(tmp_path: Path) -> None:
    publish(tmp_path, _write, created_at=CREATED_AT)
    second = publish(tmp_path, _write, created_at=CREATED_AT)

    manifest = json.loads((second.path / "manifest.json").read_bytes())
    assert manifest == json.loads(MANIFEST) | {"version": 2}


MAP_FILES = {
    "item_rows.npy": "889babfc51d3b8c0dd3ec87b3924b76fc4e4c8da453386041cac0020eb54dedb",
    "points.npy": "3dfc38d0dd22618c465b0d9aa3084c6cae99fcf1a4830b0511747753dca45f1e",
}


def test_a_tiny_map_has_these_very_bytes(tmp_path: Path) -> None:
    item_map = ItemMap(
        method="t-SNE",
        item_rows=np.array([2, 5], np.int32),
        points=np.array([[0.5, -1.0], [8.0, 0.25]], np.float32),
        trustworthiness=0.75,
        num_items=9,
    )
    item_map.save(tmp_path / "map")
    found = {path.name: path.read_bytes() for path in (tmp_path / "map").iterdir()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == MAP_FILES
    assert item_map.facts() == {
        "method": "t-SNE",
        "trustworthiness": 0.75,
        "num_items": 9,
        "num_points": 2,
    }
