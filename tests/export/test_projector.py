"""What TensorBoard's projector reads: one table of numbers, one of labels, line by line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.errors import DataError
from upnext.export.projector import export_projector

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

    from upnext.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


def labels(directory: Path) -> list[list[str]]:
    text = (directory / "metadata.tsv").read_text(encoding="utf-8")
    header, *lines = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    assert header == ["id", "title", "channel", "watches"]
    return lines


def test_both_tables_have_the_most_watched_items(recommender: Recommender, tmp_path: Path) -> None:
    export_projector(recommender, tmp_path / "out", max_items=30)
    catalogue, lines = recommender.encoder.catalogue, labels(tmp_path / "out")
    rows = catalogue.items.rows([line[0] for line in lines])
    assert len(set(rows)) == 30

    tensors = np.loadtxt(tmp_path / "out" / "tensors.tsv", delimiter="\t", dtype=np.float32)
    np.testing.assert_array_equal(tensors, recommender.retriever.item_vectors[rows])

    watches = [int(line[3]) for line in lines]
    assert watches == sorted(catalogue.num_watches, reverse=True)[:30]
    assert [line[1] for line in lines] == [catalogue.title(row) for row in rows]
    channels = [catalogue.channels.id(row) for row in catalogue.channel_rows[rows]]
    assert [line[2] for line in lines] == channels


def test_the_config_points_at_files_that_are_there(
    recommender: Recommender, tmp_path: Path
) -> None:
    export_projector(recommender, tmp_path / "out")
    config = (tmp_path / "out" / "projector_config.pbtxt").read_text()
    paths = re.findall(r'_path: "(.+)"', config)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *paths,
        "projector_config.pbtxt",
    }
    assert len(paths) == 2


def test_0_takes_every_item(recommender: Recommender, tmp_path: Path) -> None:
    export_projector(recommender, tmp_path / "out", max_items=0)
    ids = recommender.encoder.catalogue.items.series().to_list()
    assert sorted(line[0] for line in labels(tmp_path / "out")) == sorted(ids)


def test_titles_cannot_break_the_table(recommender: Recommender, tmp_path: Path) -> None:
    text = b'a\tb\r\nc "d"'
    catalogue = recommender.encoder.catalogue
    starts = np.arange(catalogue.num_rows + 1) * len(text)
    wild = replace(
        catalogue,
        title_starts=starts,
        title_bytes=np.frombuffer(text * catalogue.num_rows, np.uint8),
    )
    encoder = replace(recommender.encoder, catalogue=wild)
    export_projector(replace(recommender, encoder=encoder), tmp_path / "out", max_items=5)
    assert [line[1] for line in labels(tmp_path / "out")] == ['a b c "d"'] * 5


def test_items_without_title_or_channel_have_empty_cells(
    plain_release: TrainedRelease, tmp_path: Path
) -> None:
    export_projector(plain_release.recommender, tmp_path / "out")
    assert {tuple(line[1:3]) for line in labels(tmp_path / "out")} == {("", "")}


def test_what_is_there_is_not_touched(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "tensors.tsv").write_text("mine")
    with pytest.raises(DataError, match="a new or empty directory"):
        export_projector(recommender, tmp_path)
    assert (tmp_path / "tensors.tsv").read_text() == "mine"
