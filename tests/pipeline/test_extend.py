"""New items are retrieved by what is declared of them, and what was known stays as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from upnext.config import config_from_table
from upnext.errors import DataError, ReleaseError
from upnext.examples.item_features import side_vectors
from upnext.examples.past import told_by
from upnext.logs.read import write_logs
from upnext.pipeline.config import RunConfig
from upnext.pipeline.extend import extend
from upnext.pipeline.train import train
from upnext.recommender import Recommender
from upnext.registry.release import Release, list_releases, open_release
from upnext.schema import Floats, Id, Items, Logs, PastWatch, RecommendationRequest, Rows

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease, Upnext

FEATURES = ["channel_id", "tags", "language", "duration_s"]
RUN = {
    "logs": {"items": {"columns": {"language": "lang"}}},
    "examples": {"user_features": ["region"], "item_features": FEATURES},
    "retrieval": {
        "batch_size": 256,
        "num_epochs": 2,
        "network": {
            "vector_size": 16,
            "embedding_size": 16,
            "hidden_sizes": [32],
            "item_dropout": 0.3,
        },
    },
    "ranking": {"requests_per_batch": 50, "num_epochs": 1, "network": {"hidden_sizes": [16]}},
}
"""Small, and with a feature that the items file calls by another name."""
BY_TIME = ("sources/fresh.rows_by_time.npy", "sources/fresh.times_ms.npy")
"""New items stand among the others here, by their publication."""


@dataclass(frozen=True)
class Extended:
    """A release that never heard of some items, and one that was told of them."""

    registry: Path
    before: Recommender
    after: Recommender
    release: Release
    new_items: Items
    said: Sequence[str]


def with_languages(items: Items) -> Items:
    languages = pl.Series("language", ["fi", "sv", None])
    frame = items.frame
    return Items(frame.with_columns(languages.gather(np.arange(frame.height) % 3)))


def without_some(logs: Logs) -> tuple[Logs, Items]:
    """The logs as if every tenth item had not been published yet, and those items."""
    items = with_languages(logs.items)
    is_new = np.arange(items.frame.height) % 10 == 4
    kept = items.frame["item_id"].filter(pl.Series(~is_new))
    known = pl.col("item_id").is_in(kept.implode())
    assert logs.impressions is not None
    old = replace(
        logs,
        items=Items(items.frame.filter(known)),
        watches=replace(logs.watches, frame=logs.watches.frame.filter(known)),
        impressions=replace(logs.impressions, frame=logs.impressions.frame.filter(known)),
    )
    return old, Items(items.frame.filter(~known))


def extended(logs: Logs, directory: Path, config: RunConfig) -> Extended:
    old, new_items = without_some(logs)
    write_logs(old, directory / "logs")
    written = directory / "logs" / "items.parquet"
    pl.read_parquet(written).rename({"language": "lang"}).write_parquet(written)
    registry, said = directory / "registry", list[str]()
    train(directory / "logs", registry, config)
    release = extend(registry, 1, new_items, say=said.append)
    before, after = (Recommender.open(registry, version) for version in (1, release.version))
    return Extended(registry, before, after, release, new_items, said)


@pytest.fixture(scope="module")
def both_stages(tiny_logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> Extended:
    config = config_from_table(RUN, RunConfig, where="RUN")
    return extended(tiny_logs, tmp_path_factory.mktemp("both"), config)


@pytest.fixture(scope="module")
def tied(tiny_logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> Extended:
    """Stage 1 alone; one table, and vectors of length 1."""
    config = replace(config_from_table(RUN, RunConfig, where="RUN"), rank=False)
    network = replace(config.retrieval.network, tied=True, normalised=True, temperature=0.1)
    config = replace(config, retrieval=replace(config.retrieval, network=network))
    return extended(tiny_logs, tmp_path_factory.mktemp("tied"), config)


@pytest.fixture(params=["both_stages", "tied"])
def either(request: pytest.FixtureRequest) -> Extended:
    found: Extended = request.getfixturevalue(request.param)
    return found


def new_rows(either: Extended) -> np.ndarray:
    return either.after.encoder.catalogue.items.rows(either.new_items.frame["item_id"])


def test_new_items_stand_behind_the_known_ones(either: Extended) -> None:
    first = either.before.encoder.catalogue.num_rows
    rows = new_rows(either)
    assert sorted(rows) == list(range(first, first + either.new_items.frame.height))
    catalogue = either.after.encoder.catalogue
    told = either.new_items.frame
    assert [catalogue.title(row) for row in rows] == told["title"].to_list()
    assert catalogue.published_at_ms[rows].tolist() == told["published_at_ms"].to_list()


def test_a_new_items_vector_is_what_its_features_say(either: Extended) -> None:
    tables = {
        name: either.release.array(f"retrieval/side/{name}.npy") for name in ("values", "levels")
    }
    vectors = side_vectors(either.after.encoder.item_features, tables, new_rows(either))
    assert np.linalg.norm(vectors, axis=1).min() > 0.1
    if either.after.ranker is None:
        in_histories = either.after.retriever.watch_embeddings[new_rows(either)]
        np.testing.assert_array_equal(in_histories, vectors)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(
        either.after.retriever.item_vectors[new_rows(either)], vectors, atol=1e-6
    )


def mean_of_known(table: Floats, rows: Rows) -> Floats:
    known = rows[rows > 1]
    mean: Floats = table[known].sum(axis=0) / np.float32(max(len(known), 1))
    return mean


def test_ranking_knows_a_new_item_by_its_channel_tags_and_features(both_stages: Extended) -> None:
    """As it knows the others, but for the vector of their own."""
    after, new = both_stages.after, new_rows(both_stages)
    catalogue, array = after.encoder.catalogue, both_stages.release.array
    assert after.ranker is not None
    own, channels, tags = (
        array(f"ranking/tables/{name}.npy") for name in ("item", "channel", "tag")
    )
    side = {name: array(f"ranking/side/{name}.npy") for name in ("values", "levels")}
    of_side = side_vectors(after.encoder.item_features, side, np.arange(catalogue.num_rows))
    for row in range(2, catalogue.num_rows):
        parts = [
            own[row] if row < len(own) else np.zeros(own.shape[1], np.float32),
            mean_of_known(channels, catalogue.channel_rows[[row]]),
            mean_of_known(tags, catalogue.tag_rows[row]),
            of_side[row],
        ]
        np.testing.assert_allclose(after.ranker.item_vectors[row], np.concatenate(parts), atol=1e-6)
    assert len(after.ranker.item_vectors) == catalogue.num_rows
    assert new.min() == len(own)
    assert (np.abs(after.ranker.item_vectors[new]).max(axis=1) > 0.01).all()


def test_of_themselves_new_items_are_unknown_to_histories(both_stages: Extended) -> None:
    after, rows = both_stages.after, new_rows(both_stages)
    items = after.encoder.catalogue.items
    at_ms = int(after.history.watches.at_ms.max()) + 1

    def told(last: Id) -> RecommendationRequest:
        ids = [*(items.id(row) for row in (2, 5, 3)), last]
        past = [PastWatch(item_id=i, started_at_ms=at_ms - 9, watch_time_s=9.0) for i in ids]
        return RecommendationRequest(history=past, at_ms=at_ms)

    answers = [after.recommend(told(i)).items for i in (items.id(int(rows[0])), "never seen")]
    scores = [{item.item_id: item.retrieval_score for item in answer} for answer in answers]
    shared = scores[0].keys() & scores[1].keys()
    assert shared
    assert all(scores[0][item] == pytest.approx(scores[1][item], abs=1e-5) for item in shared)


def test_what_was_known_stays_bit_for_bit(either: Extended) -> None:
    before = open_release(either.registry, 1)
    after = either.release
    assert before.files.keys() == after.files.keys()
    for name in before.files:
        if name in BY_TIME:
            known = after.array(BY_TIME[0]) < either.before.encoder.catalogue.num_rows
            np.testing.assert_array_equal(before.array(name), after.array(name)[known])
        elif not name.endswith(".npy"):
            assert before.files[name] == after.files[name] or name.startswith("index/")
        elif len(before.array(name)) == len(after.array(name)) and "order" not in name:
            np.testing.assert_array_equal(before.array(name), after.array(name))
        elif "order" not in name:
            grown = after.array(name)[: len(before.array(name))]
            np.testing.assert_array_equal(before.array(name), grown)
    same = [name for name in before.files if before.files[name] == after.files[name]]
    assert {name.split("/")[0] for name in same} >= {"config.json", "users", "history"}
    assert "retrieval/tower.onnx" in same


def test_known_items_are_asked_and_answered_as_before(either: Extended) -> None:
    at_ms = int(either.before.history.watches.at_ms.max()) + 1
    for user in range(2, either.before.users.num_rows, 9):
        request = RecommendationRequest(user_id=either.before.users.id(user), k=500, at_ms=at_ms)
        items = {item.item_id: item for item in either.before.recommend(request).items}
        again = {item.item_id: item for item in either.after.recommend(request).items}
        assert again.keys() - items.keys() == set(either.new_items.frame["item_id"])
        for item_id, item in items.items():
            told = again[item_id]
            assert told.retrieval_score == pytest.approx(item.retrieval_score, rel=1e-5, abs=1e-6)
            assert told.title == item.title
            if item.expected_watch_time_s is None:
                assert told.expected_watch_time_s is None
            else:
                seconds = pytest.approx(item.expected_watch_time_s, rel=1e-5)
                assert told.expected_watch_time_s == seconds


def test_a_watch_of_a_new_item_is_an_ordinary_one(either: Extended) -> None:
    watched = either.new_items.frame["item_id"][0]
    request = RecommendationRequest(history=[PastWatch(item_id=watched)], k=500)
    items = [item.item_id for item in either.after.recommend(request).items]
    assert watched not in items
    assert len(items) == either.after.encoder.catalogue.num_rows - 3


def test_the_map_is_that_of_the_items_that_were_learned(either: Extended) -> None:
    rows, facts = either.release.array("map/item_rows.npy"), either.release.metadata["map"]
    assert facts == open_release(either.registry, 1).metadata["map"]
    assert rows.max() < either.before.encoder.catalogue.num_rows
    assert facts["num_items"] == facts["num_points"] == len(rows)
    assert len(either.release.array("map/points.npy")) == len(rows)


def test_a_release_says_what_it_was_extended_from(either: Extended) -> None:
    facts, before = either.release.metadata, open_release(either.registry, 1).metadata
    num_new = either.new_items.frame.height
    assert facts["extended_from"] == 1
    assert facts["num_items_added"] == num_new
    assert facts["num_items"] == before["num_items"] + num_new
    assert facts["train_until"] == before["train_until"]
    assert f"0 items are known already, {num_new} are new" in either.said
    assert f"release {either.release.version}, extended from 1" in either.said[-1]


def test_without_a_new_item_nothing_is_published(either: Extended) -> None:
    said: list[str] = []
    version = either.release.version
    again = extend(either.registry, version, either.new_items, say=said.append)
    assert again.version == version == max(list_releases(either.registry))
    assert said == [f"{either.new_items.frame.height} items are known already, 0 are new"]


def test_a_release_grows_again(tied: Extended) -> None:
    more = tied.new_items.frame[:2].with_columns(item_id=pl.Series(["later 1", "later 2"]))
    release = extend(tied.registry, tied.release.version, Items(more))
    after = Recommender.open(tied.registry, release.version)
    rows = after.encoder.catalogue.items.rows(["later 1", "later 2"])
    twins = after.encoder.catalogue.items.rows(tied.new_items.frame["item_id"][:2])
    num_rows = tied.after.encoder.catalogue.num_rows
    assert rows.tolist() == [num_rows, num_rows + 1]
    np.testing.assert_allclose(
        after.retriever.item_vectors[rows], after.retriever.item_vectors[twins], atol=1e-7
    )
    assert release.metadata["extended_from"] == tied.release.version
    assert release.metadata["num_items_added"] == 2


def test_a_file_is_read_as_the_runs_own_was_and_bad_rows_are_told(
    upnext: Upnext, tied: Extended, tmp_path: Path
) -> None:
    path = tmp_path / "new [1].csv"
    path.write_text(
        "item_id,channel_id,lang,duration_s,title\n"
        "film 1,,fi,60,Été\nfilm 1,,fi,60,again\n,,sv,60,no id\nfilm 2,,sv,,\n",
        encoding="utf-8",
    )
    ended = upnext("extend", tied.registry, 1, path)
    assert ended.status == 0, ended.stderr
    release = open_release(tied.registry, int(ended.stdout))
    assert "1 rows left out: null item_id" in ended.stderr
    assert "1 rows left out: duplicate" in ended.stderr
    assert release.metadata["num_items_added"] == 2
    after = Recommender.open(tied.registry, release.version)
    finnish, swedish = after.encoder.catalogue.items.rows(["film 1", "film 2"])
    assert after.encoder.catalogue.title(finnish) == "Été"
    languages = after.encoder.item_features.categories["language"]
    assert {languages.row("fi"), languages.row("sv")} == {2, 3}
    assert not np.allclose(
        after.retriever.item_vectors[finnish], after.retriever.item_vectors[swedish]
    )


def test_tables_that_cannot_be_used_are_refused(tied: Extended, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a column language, got item_id, .*title"):
        extend(tied.registry, 1, Items(tied.new_items.frame.drop("language")))
    with pytest.raises(DataError, match=r"absent\.parquet"):
        extend(tied.registry, 1, tmp_path / "absent.parquet")
    nothing = tmp_path / "nothing.csv"
    nothing.write_text("item_id,lang\n,fi\n", encoding="utf-8")
    with pytest.raises(DataError, match="at least one good row"):
        extend(tied.registry, 1, nothing)


def test_a_release_without_item_features_is_refused(
    tiny_release: TrainedRelease, both_stages: Extended
) -> None:
    with pytest.raises(ReleaseError, match=r"none declared.\nHint: train with \[examples\]"):
        extend(tiny_release.registry, 1, both_stages.new_items)
    assert list_releases(tiny_release.registry) == [1]


def test_it_is_done_without_what_trains(both_stages: Extended, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    both_stages.new_items.frame[:1].rename({"language": "lang"}).write_parquet(path)
    program = (
        "import sys; from upnext.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, "extend", str(both_stages.registry), "1", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["False"]


def test_a_user_without_history_is_told_by_features(both_stages: Extended) -> None:
    """A newcomer from each region, a stranger to all of them, and the same newcomer once more."""
    recommender = both_stages.after
    regions = recommender.encoder.user_features["region"].series().to_list()
    vectors = []
    for features in [*({"region": region} for region in regions), {}, {"region": regions[0]}]:
        request = RecommendationRequest(user_features=features, at_ms=0)
        history = told_by(recommender.encoder, request, 0)
        vectors.append(recommender.retriever.user_vectors(history, np.array([0]), np.array([0]))[0])
    *different, again = vectors
    assert len(np.unique(np.array(different).round(6), axis=0)) == len(regions) + 1
    np.testing.assert_array_equal(again, vectors[0])
