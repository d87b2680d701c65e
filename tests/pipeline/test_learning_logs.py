"""What both stages learn from, in memory and on disk."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from upnext.examples.encoder import ExamplesConfig
from upnext.logs.read import write_logs
from upnext.pipeline.config import RunConfig, SplitConfig
from upnext.pipeline.learning_logs import open_learning_logs
from upnext.pipeline.prepare import prepare
from upnext.schema import MS_PER_DAY, Impressions, Logs

CONFIG = RunConfig(split=SplitConfig(validation_days=1, test_days=1))


@pytest.mark.parametrize("where", ["in memory", "on disk"])
def test_impressions_that_are_logged_since_lately_are_none_to_learn_from(
    tiny_logs: Logs, tmp_path: Path, where: str
) -> None:
    """Ranking then learns from watches, and does not fail once retrieval is trained."""
    assert tiny_logs.impressions is not None
    shown = tiny_logs.impressions.frame
    since_ms = int(shown["shown_at_ms"].to_numpy().max()) - MS_PER_DAY // 2
    lately = Impressions(shown.filter(pl.col("shown_at_ms") > since_ms))
    directory = tmp_path / "logs"
    write_logs(replace(tiny_logs, impressions=lately), directory)
    if where == "on disk":
        prepare(directory, tmp_path / "prepared", CONFIG.logs)
        directory = tmp_path / "prepared"
    data = open_learning_logs(directory, CONFIG, lambda _: None).data(ExamplesConfig(), refit=False)
    assert data.impressions is None
    assert len(data.history.shown.rows) == lately.frame.height
