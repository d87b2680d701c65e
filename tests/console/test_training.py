"""The page of training: the curves of a run, where it stands, and two runs over each other."""

import html

import httpx
import pytest
from tests.console.fake_server import FakeServer
from tests.console.measured import BEGAN_MS, OTHER, RUN, curve, run, with_runs

from upnext.pictures.numbers import short, when


def show(fake: FakeServer, visitor: httpx.Client, *runs: object, query: str = "") -> str:
    """The page of these runs, as text."""
    fake.answers.update(with_runs(*runs))  # type: ignore[arg-type]
    answer = visitor.get(f"/training{query}")
    assert answer.status_code == 200
    return html.unescape(answer.text)


def test_every_number_of_a_run_stands_in_the_page(fake: FakeServer, visitor: httpx.Client) -> None:
    resumes = [{"step": 50, "at_ms": BEGAN_MS + 7_000}]
    part = curve("chosen/retrieval", resumes=resumes, num_unreadable=4)
    text = show(fake, visitor, run(RUN, part, release=2))
    for point in part["points"]:
        for name in ("loss", "learning_rate", "examples_per_s"):
            assert short(point[name]) in text
    for epoch in part["epochs"]:
        assert short(epoch["metrics"]["recall_at_50"], num_digits=4) in text
        assert when(epoch["at_ms"]) in text
    assert "Best epoch</dt><dd>1, step 60" in text
    assert "Last epoch</dt><dd>2, step 90" in text
    assert f"at step 50, {when(BEGAN_MS + 7_000)}" in text
    assert "39,111 examples a second" in text
    assert "4 lines of its curves" in text
    assert f"tensorboard --logdir REGISTRY/training/{RUN}" in text


def test_a_run_that_learns_is_shown_first_and_renewed(visitor: httpx.Client) -> None:
    text = visitor.get("/training").text
    assert f'<option value="{OTHER}" selected>' in text
    assert text.index(f'<option value="{OTHER}"') < text.index(f'<option value="{RUN}"')
    assert 'data-refresh-s="5"' in text
    assert "what guides the choice is known when the release is made" in text


def test_else_the_run_of_the_stable_release_is_shown(
    fake: FakeServer, visitor: httpx.Client
) -> None:
    runs = (run(OTHER, curve("a"), release=3), run(RUN, curve("a"), release=2))
    text = show(fake, visitor, *runs)
    assert f'<option value="{RUN}" selected>' in text
    assert "data-refresh-s" not in text


def test_else_the_newest_run_is_shown(fake: FakeServer, visitor: httpx.Client) -> None:
    text = show(fake, visitor, run(OTHER, curve("a")), run(RUN, curve("a"), release=1))
    assert f'<option value="{OTHER}" selected>' in text
    assert "ended without a release" in text


def test_two_runs_are_laid_over_each_other(fake: FakeServer, visitor: httpx.Client) -> None:
    mine = run(RUN, curve("chosen/retrieval"), curve("chosen/ranking"), release=2)
    other = run(OTHER, curve("chosen/retrieval", num_steps=50), curve("extra"))
    query = f"?training={RUN}&beside={OTHER}"
    text = show(fake, visitor, mine, other, query=query)
    assert "release 2: 90 steps, 3 epochs; run 0c00b02724: 90 steps, 3 epochs." in text
    assert "best of run 0c00b02724" in text
    assert "Only the other run has extra." in text
    assert "chosen/ranking: loss" in text
    assert "tensorboard --logdir REGISTRY/training<" in text


def test_a_run_beside_itself_is_shown_alone(visitor: httpx.Client) -> None:
    text = visitor.get(f"/training?training={RUN}&beside={RUN}").text
    assert "mean of the epoch" in text
    assert "Beside</dt>" not in text


def test_a_run_without_epochs_is_a_sentence(fake: FakeServer, visitor: httpx.Client) -> None:
    text = show(fake, visitor, run(RUN, curve("a", num_epochs=0), is_running=True))
    assert "No epoch has ended yet" in text


def test_a_run_that_has_reported_nothing_is_a_sentence(
    fake: FakeServer, visitor: httpx.Client
) -> None:
    empty = curve("a", num_epochs=0, points=[], num_points=0)
    assert "Nothing was reported of this part yet" in show(fake, visitor, run(RUN, empty))
    assert "This run has no curves" in show(fake, visitor, run(RUN))


def test_numbers_that_are_none_are_dashes(fake: FakeServer, visitor: httpx.Client) -> None:
    point = {"step": 7, "at_ms": BEGAN_MS, "loss": None, "learning_rate": None}
    part = curve("a", points=[{**point, "examples_per_s": None}], num_epochs=0)
    assert "loss –, – examples a second" in show(fake, visitor, run(RUN, part))


def test_without_runs_there_is_a_sentence(fake: FakeServer, visitor: httpx.Client) -> None:
    text = show(fake, visitor)
    assert "No run has told anything yet" in text
    assert "upnext train LOGS REGISTRY" in text


def test_names_of_parts_and_metrics_are_never_markup(
    fake: FakeServer, visitor: httpx.Client
) -> None:
    bad = "<script>alert(1)</script>"
    part = curve(bad)
    part["epochs"][0]["metrics"] = {bad: 1.0}
    fake.answers.update(with_runs(run(RUN, part, release=2)))
    assert "<script>alert" not in visitor.get("/training").text


@pytest.mark.parametrize("query", ["training=nope", "training=..%2Freleases", "beside=nope"])
def test_a_run_that_is_not_there_is_not_found(visitor: httpx.Client, query: str) -> None:
    assert visitor.get(f"/training?{query}").status_code == 404
