"""One config chooses; what was saved tells what to load."""

from pathlib import Path

import numpy as np
import pytest

from upnext.errors import ConfigError, ReleaseError
from upnext.index import (
    ApproximateIndex,
    ExactIndex,
    HashingIndex,
    IndexConfig,
    build_index,
    load_index,
)
from upnext.schema import Floats

ITEMS: Floats = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)


def test_auto_is_exact_until_the_catalogue_is_large() -> None:
    assert isinstance(build_index(ITEMS, IndexConfig()), ExactIndex)
    large = IndexConfig(max_exact_items=100)
    assert isinstance(build_index(ITEMS, large), ApproximateIndex)


def test_a_named_kind_is_taken_whatever_the_size() -> None:
    hashing = build_index(ITEMS, IndexConfig(kind="hashing", num_bits=16, num_compared=7))
    assert isinstance(hashing, HashingIndex)
    assert hashing.facts.num_searched == 7
    assert isinstance(build_index(ITEMS, IndexConfig(kind="exact", max_exact_items=1)), ExactIndex)


@pytest.mark.parametrize("wrong", [{"min_recall": 0.0}, {"min_recall": 1.5}, {"num_bits": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        IndexConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", [None, "{", "[]", '{"kind": "magic"}', '{"kind": "exact", "colour": "red"}']
)
def test_a_directory_that_holds_no_index_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(ReleaseError, match=r"index\.json"):
        load_index(tmp_path, ITEMS)


def test_facts_of_an_earlier_version_still_tell_what_they_told(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"kind": "exact", "num_searched": 0}')
    index = load_index(tmp_path, ITEMS)
    assert isinstance(index, ExactIndex)
    assert index.recall_at_100 == 1.0


def test_one_kind_is_not_loaded_as_another(tmp_path: Path) -> None:
    build_index(ITEMS, IndexConfig(kind="exact")).save(tmp_path)
    with pytest.raises(ReleaseError, match="approximate"):
        ApproximateIndex.load(tmp_path, ITEMS)
