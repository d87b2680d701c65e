"""While a server runs it follows shares of traffic, and tells its numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.patience import SOON_S

from upnext.serving.answering import Answering
from upnext.serving.keeping import Keeping
from upnext.serving.metrics import Metrics
from upnext.serving.releases import LiveReleases
from upnext.serving.traffic import (
    ShadowConfig,
    Traffic,
    traffic_path,
    write_traffic,
)

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases

HALF = Traffic(split={"stable": 0.5, "canary": 0.5})


@dataclass
class Lost:
    num_lost_pages: int = 0


@pytest.fixture
def answering(fakes: FakeReleases) -> Iterator[Answering]:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    answering = Answering(live)
    yield answering
    answering.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    by_s = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < by_s
        time.sleep(0.01)


def test_traffic_is_followed_from_the_start_and_as_it_changes(
    tmp_path: Path, answering: Answering
) -> None:
    write_traffic(tmp_path, HALF)
    with Keeping(tmp_path, answering, Metrics(), None):
        assert answering.traffic == HALF
        shadowed = Traffic(shadow=ShadowConfig(label="canary", share=0.1))
        write_traffic(tmp_path, shadowed)
        wait_until(lambda: answering.traffic == shadowed)
        traffic_path(tmp_path).unlink()
        wait_until(lambda: answering.traffic == Traffic())


def test_shares_that_cannot_be_read_change_nothing_and_are_told(
    tmp_path: Path, answering: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    write_traffic(tmp_path, HALF)
    with Keeping(tmp_path, answering, Metrics(), None):
        for wrong in ('{"split": {"stable": 2}}', "{", '{"splits": {}}'):
            num_told = len(caplog.records)
            unfinished = tmp_path / "unfinished"
            unfinished.write_text(wrong, encoding="utf-8")
            unfinished.rename(traffic_path(tmp_path))
            wait_until(lambda told=num_told: len(caplog.records) > told)  # type: ignore[misc]
            assert answering.traffic == HALF
        write_traffic(tmp_path, Traffic())
        wait_until(lambda: answering.traffic == Traffic())
    assert {record.message for record in caplog.records} == {"traffic stays as it was"}


def test_numbers_are_told(tmp_path: Path, answering: Answering) -> None:
    metrics, lost = Metrics(), Lost(3)
    with Keeping(tmp_path, answering, metrics, lost):
        told = metrics.to_text().decode()
        assert 'upnext_release_state{release="1",state="ready"} 1.0' in told
        assert 'upnext_label_release{label="stable"} 1.0' in told
        assert "upnext_pages_lost 3.0" in told
        assert "upnext_waiting 0.0" in told
        lost.num_lost_pages = 4
        answering.live.load(2)
        answering.live.label("stable", 2)
        answering.live.unload(1)
        wait_until(lambda: "upnext_pages_lost 4.0" in metrics.to_text().decode())
    told = metrics.to_text().decode()
    assert 'upnext_label_release{label="stable"} 2.0' in told
    assert 'upnext_release_state{release="1",state="ready"} 0.0' in told
    assert 'upnext_release_state{release="2",state="ready"} 1.0' in told


class Broken:
    @property
    def num_lost_pages(self) -> int:
        if self.is_broken:
            raise RuntimeError("no numbers")
        return 0

    is_broken = False


def test_a_failure_ends_nothing(
    tmp_path: Path, answering: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    store = Broken()
    with Keeping(tmp_path, answering, Metrics(), store):
        store.is_broken = True
        wait_until(lambda: "could not look after itself" in caplog.text)
        write_traffic(tmp_path, HALF)
        wait_until(lambda: answering.traffic == HALF)
