"""Users are split as told, always alike, and a label that grows takes nobody from itself."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ConfigError
from upnext.serving.traffic import (
    ShadowConfig,
    Traffic,
    place_of,
    read_traffic,
    traffic_of,
    traffic_path,
    write_traffic,
)

USERS = [f"u{number:05}" for number in range(4_000)]


def of(canary: float) -> Traffic:
    return Traffic(split={"stable": 1 - canary, "canary": canary})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_each_label_answers_its_share_of_users(share: float) -> None:
    labels = [of(share).label_of(user) for user in USERS]
    expected = share * len(USERS)
    deviation = (expected * (1 - share)) ** 0.5
    assert abs(labels.count("canary") - expected) <= 5 * deviation
    assert [of(share).label_of(user) for user in USERS] == labels


@given(small=st.floats(0, 1), more=st.floats(0, 1))
def test_who_was_answered_by_a_label_stays_with_it_when_it_grows(small: float, more: float) -> None:
    large = small + (1 - small) * more
    for user in USERS[:50]:
        if of(small).label_of(user) == "canary":
            assert of(large).label_of(user) == "canary"


def test_without_a_user_labels_are_drawn() -> None:
    labels = {of(0.5).label_of(None) for _ in range(200)}
    assert labels == {"stable", "canary"}


def test_a_number_and_its_text_are_two_users() -> None:
    assert place_of(7) != place_of("7")
    assert place_of("ユーザー \ud800") == place_of("ユーザー \ud800")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_traffic(tmp_path) == Traffic()
    traffic = traffic_of({"stable": 90, "canary": 10}, ShadowConfig(label="next", share=0.2))
    write_traffic(tmp_path, traffic)
    assert read_traffic(tmp_path) == traffic
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["traffic.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"split": {}}',
        b'{"split": {"stable": 0.5}}',
        b'{"split": {"stable": 1.5, "canary": -0.5}}',
        b'{"splits": {"stable": 1.0}}',
        b'{"split": {"stable": "all"}}',
        b'{"shadow": {"label": "canary", "share": 2.0}}',
        b"\xff",
    ],
)
def test_what_is_no_split_is_refused(tmp_path: Path, content: bytes) -> None:
    traffic_path(tmp_path).write_bytes(content)
    with pytest.raises(ConfigError):
        read_traffic(tmp_path)


def test_shares_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="a share above 0"):
        traffic_of({"stable": 0})
