"""Two runs over each other: every number of both, and nothing of what neither has."""

from typing import Any

from tests.console.measured import curve

from upnext.pictures.beside import beside_pictures
from upnext.pictures.numbers import short


def test_both_runs_stand_in_every_picture() -> None:
    mine, other = curve("chosen/retrieval"), curve("chosen/retrieval", num_steps=50, num_epochs=2)
    pictures = beside_pictures({"mine": mine, "other": other})
    assert [one.title.partition(": ")[2] for one in pictures] == [
        "loss",
        "examples a second",
        "learning rate",
        "recall@50",
    ]
    for picture in pictures:
        assert [name for _, name in picture.legend] == ["mine", "other"]
        assert "mine: 90 steps, 3 epochs; other: 60 steps, 2 epochs" in picture.about
    told = {cell for row in pictures[0].table.rows for cell in row[1:]}
    for point in (*mine["points"], *other["points"]):
        assert short(point["loss"]) in told
    assert "best of mine" in pictures[-1].svg
    assert "best of other" in pictures[-1].svg


def test_a_run_that_has_not_begun_leaves_the_other_alone() -> None:
    empty = curve("a", num_epochs=0, points=[], resumes=[{"step": 3, "at_ms": 1}])
    pictures = beside_pictures({"mine": empty, "other": curve("a")})
    assert len(pictures) == 4
    assert "mine resumed" in pictures[0].svg
    assert beside_pictures({"mine": empty, "other": empty}) == []


def test_a_metric_of_one_run_alone_is_drawn() -> None:
    epochs: list[dict[str, Any]] = [{"epoch": 0, "step": 9, "at_ms": 1, "metrics": {"auc": 0.71}}]
    mine = curve("a", epochs=epochs, best_epoch=None)
    titles = [one.title for one in beside_pictures({"mine": mine, "other": curve("a")})]
    assert titles[-2:] == ["a: AUC", "a: recall@50"]


def test_a_run_too_short_to_report_is_drawn_by_its_epochs() -> None:
    mine = curve("a", points=[])
    pictures = beside_pictures({"mine": mine, "other": curve("a")})
    told = {row[0]: row[1] for row in pictures[0].table.rows}
    for epoch in mine["epochs"]:
        assert told[short(epoch["step"])] == short(epoch["metrics"]["loss"])
