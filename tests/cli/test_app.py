"""Each verb does its work: results on stdout, messages on stderr, and a true exit status."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import post

from upnext.cli.terminal import time_ms
from upnext.registry.moves import move_label
from upnext.registry.release import open_release, publish

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease, Upnext

    from upnext.schema import Logs

TRAINING_LIBRARIES = ("torch", "onnx", "onnxscript")

RUN = f"""
import sys
from upnext.cli import main
try:
    main()
finally:
    loaded = [name for name in {TRAINING_LIBRARIES} if name in sys.modules]
    print("loaded:", *loaded, file=sys.stderr)
"""


@pytest.fixture
def registry(tiny_release: TrainedRelease, tmp_path: Path) -> Path:
    """A copy of its registry, to be changed at will."""
    return Path(shutil.copytree(tiny_release.registry, tmp_path / "registry"))


@pytest.fixture
def logs(tiny_logs_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny logs, to be damaged at will."""
    return Path(shutil.copytree(tiny_logs_dir, tmp_path / "logs"))


def test_simulate_writes_logs_that_the_seed_decides(upnext: Upnext, tmp_path: Path) -> None:
    world = tmp_path / "world.toml"
    world.write_text("num_users = 30\nnum_items = 100\nnum_days = 2\nnum_channels = 9\n")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ended = upnext("simulate", tmp_path / name, "--config", world, "--seed", seed)
        assert (ended.status, ended.stdout) == (0, "")
        assert "simulated 2 days into" in ended.stderr
    items = [(tmp_path / name / "items.parquet").read_bytes() for name in "abc"]
    assert items[0] == items[1] != items[2]


def test_import_turns_a_download_into_logs(upnext: Upnext, tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt").write_text("1 5 6 5\n2 7\n")
    ended = upnext("import", "amazon-sequences", tmp_path / "Beauty.txt", tmp_path / "logs")
    assert (ended.status, ended.stdout) == (0, "")
    assert "imported 4 watches" in ended.stderr
    report = upnext("check", tmp_path / "logs", "--json").json
    assert report["tables"]["watches"]["num_accepted"] == 4


def test_check_counts_good_and_bad_rows(upnext: Upnext, logs: Path) -> None:
    watches = logs / "watches" / "more.csv"
    watches.write_text("user_id,item_id,started_at_ms,watch_time_s\nu00001,v00001,9,-3\n")
    ended = upnext("check", logs, "--json")
    assert ended.status == 0
    assert ended.json["tables"]["watches"]["quarantined"] == {"negative watch_time_s": 1}
    text = upnext("check", logs)
    assert text.status == 0
    assert "negative watch_time_s" in text.stdout
    assert (logs / "quarantine" / "watches.parquet").exists()


def test_train_publishes_and_prints_the_version_alone(
    upnext: Upnext, plain_release: TrainedRelease, tmp_path: Path
) -> None:
    run_toml = tmp_path / "run.toml"
    run_toml.write_text("rank = false\n[retrieval]\nnum_epochs = 1\n")
    how = ("--config", run_toml, "--protocol", "last-event")
    ended = upnext("train", plain_release.logs_dir, tmp_path / "registry", *how)
    assert (ended.status, ended.stdout) == (0, "1\n")
    assert "retrieval epoch 0" in ended.stderr
    asked = upnext("recommend", tmp_path / "registry", "--user", "ユーザー 2", "--json")
    assert len(asked.json["items"]) == 20 - 12


def test_evaluate_prints_the_report_and_writes_a_page(
    upnext: Upnext, registry: Path, logs: Path
) -> None:
    text = upnext("evaluate", logs, registry)
    assert text.status == 0
    assert "Funnel: where targets get lost" in text.stdout
    assert "evaluation: ranking" in text.stderr
    written = {path.name for path in (registry / "evaluations" / "1").iterdir()}
    assert {"report.json", "report.txt", "report.html"} == written


def test_evaluate_as_json_is_json_alone(
    upnext: Upnext, plain_release: TrainedRelease, tmp_path: Path
) -> None:
    registry = shutil.copytree(plain_release.registry, tmp_path / "registry")
    report = upnext("evaluate", plain_release.logs_dir, registry, "--release", "1", "--json").json
    assert report["notes"]
    assert {system["name"] for system in report["retrieval"]} >= {"retrieval", "most watched"}


def test_recommend_prints_a_table_and_keeps_the_timings_apart(
    upnext: Upnext, tiny_release: TrainedRelease
) -> None:
    ended = upnext("recommend", tiny_release.registry, "--user", "u00003", "--k", 3)
    assert ended.status == 0
    header, *lines = ended.stdout.splitlines()
    told = ["#", "item", "title", "expected watch time", "nominated by"]
    assert re.split(r"\s{2,}", header.strip()) == told
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert re.match(r"release 1, \d+ candidates; past .*, user_vector .*, total \d", ended.stderr)
    nominators = re.compile(
        r" s +(retrieval \d+|together|popular|fresh)(, (together|popular|fresh))*$"
    )
    assert all(nominators.search(line.rstrip()) for line in lines)


def test_recommend_says_whom_and_what_the_release_does_not_know(
    upnext: Upnext, tiny_release: TrainedRelease
) -> None:
    known = upnext("recommend", tiny_release.registry, "--user", "u00003")
    assert "somebody new" not in known.stderr
    asked = ("--user", "u99999", "--history", "v00007,v99998,v99999", "--json")
    strange = upnext("recommend", tiny_release.registry, *asked)
    assert strange.status == 0
    assert "user u99999 is not in its logs: answered as somebody new" in strange.stderr
    assert "not among its items: v99998, v99999\n" in strange.stderr


def test_recommend_tells_why(upnext: Upnext, tiny_release: TrainedRelease) -> None:
    """As many reasons below each item as were asked for, the same that JSON tells."""
    asked = ["recommend", tiny_release.registry, "--user", "u00003", "--at", "2026-01-11T12:00"]
    items = upnext(*asked, "--k", 2, "--why", 3, "--json").json["items"]
    ended = upnext(*asked, "--k", 2, "--why", 3)
    assert (ended.status, len(ended.stdout.splitlines())) == (0, 1 + 2 * (1 + 3))
    expected = [
        f"{reason['about']} {reason['item_id'] or ''}".strip() + f" {reason['watch_time_s']:+.1f} s"
        for item in items
        for reason in item["reasons"]
    ]
    lines = [" ".join(line.split()) for line in ended.stdout.splitlines()[1:]]
    assert [line for line in lines if not line[0].isdigit()] == expected
    assert [line.split()[:2] for line in lines if line[0].isdigit()] == [
        [str(place), item["item_id"]] for place, item in enumerate(items, start=1)
    ]
    plain = upnext(*asked, "--k", 2, "--json").json["items"]
    assert plain == [item | {"reasons": []} for item in items]


def test_recommend_takes_what_a_request_can_tell(
    upnext: Upnext, tiny_release: TrainedRelease
) -> None:
    registry = tiny_release.registry

    def items(*arguments: object) -> list[str]:
        ended = upnext("recommend", registry, "--at", "2026-01-11T12:00", "--json", *arguments)
        assert ended.status == 0
        return [item["item_id"] for item in ended.json["items"]]

    first = items("--k", 30)
    assert len(first) == 30
    assert items("--k", 30, "--at", "2026-01-11T14:00+02:00") == first
    assert not set(first[:2]) & set(items("--history", f" {first[0]},{first[1]} ,"))
    assert set(items("--history", first[0], "--with-watched", "--k", 1000)) >= {first[0]}
    assert len(items("--search", "a b", "--search", "c")) == 10


def test_recommend_takes_what_is_asked_of_the_page(
    upnext: Upnext, tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    facts = {line["item_id"]: line for line in tiny_logs.items.frame.to_dicts()}

    def page(*arguments: object) -> list[dict[str, Any]]:
        moment = ["--at", "2026-01-11T12:00", "--json"]
        ended = upnext("recommend", tiny_release.registry, *moment, *arguments)
        assert ended.status == 0
        return [item | facts[item["item_id"]] for item in ended.json["items"]]

    first = page("--k", 60)
    channels = [item["channel_id"] for item in page("--k", 60, "--max-per-channel", 1)]
    assert len(channels) == len(set(channels)) < len(first)
    tag, channel = first[0]["tags"][0], first[0]["channel_id"]
    assert all(tag in item["tags"] for item in page("--tag", tag))
    assert all(tag not in item["tags"] for item in page("--block-tag", tag))
    assert {item["channel_id"] for item in page("--channel", channel)} == {channel}
    both = page("--block-channel", channel, "--block-channel", first[1]["channel_id"])
    assert not {channel, first[1]["channel_id"]} & {item["channel_id"] for item in both}
    bounded = page("--min-duration", 100, "--max-duration", 300)
    assert all(100 <= item["duration_s"] <= 300 for item in bounded)
    since = page("--published-since", "2026-01-07")
    assert min(item["published_at_ms"] for item in since) >= time_ms("2026-01-07")
    assert page("--k", 30, "--diversity", 0.8) != first[:30]
    fresh = page("--fresh-slots", 10, "--fresh-days", 3)
    assert any(item["published_at_ms"] >= time_ms("2026-01-08T12:00") for item in fresh)
    assert page("--explore", 9, "--seed", 4) == page("--explore", 9, "--seed", 4)


def test_recommend_shows_what_was_drawn_and_says_what_is_amiss(
    upnext: Upnext, tiny_release: TrainedRelease
) -> None:
    asked = ["--k", 4, "--explore", 2, "--block-tag", "not a tag of ours"]
    ended = upnext("recommend", tiny_release.registry, *asked)
    header, *lines = ended.stdout.splitlines()
    assert header.rstrip().endswith("drawn with probability")
    assert [bool(re.search(r" 0\.\d{4}$", line.rstrip())) for line in lines] == [
        False,
        False,
        True,
        True,
    ]
    assert "rules.blocked_tags: this release does not know 1 of 1\n" in ended.stderr


@pytest.mark.parametrize("user", ["nobody", "[/red]", ":star:", "ユーザー 👩‍🚀", "'; drop", "-1"])
def test_any_user_id_gets_an_answer(
    upnext: Upnext, tiny_release: TrainedRelease, user: str
) -> None:
    ended = upnext("recommend", tiny_release.registry, f"--user={user}")
    assert (ended.status, len(ended.stdout.splitlines())) == (0, 11)


def test_ids_are_printed_as_they_are(upnext: Upnext, plain_release: TrainedRelease) -> None:
    ended = upnext("recommend", plain_release.registry, "--user", 'a"b', "--k", 1000)
    assert (ended.status, ended.stdout.count("видео ")) == (0, 20 - 12)


def test_releases_and_labels_from_the_first_move_to_the_rollback(
    upnext: Upnext, registry: Path
) -> None:
    _publish_again(registry)
    assert [one["version"] for one in upnext("releases", registry, "--json").json] == [1, 2]
    moved = [upnext("label", registry, "stable", version) for version in (1, 2)]
    assert [one.status for one in moved] == [0, 0]
    assert [one.stderr.splitlines()[-1] for one in moved] == [
        "stable: nothing → 1",
        "stable: 1 → 2",
    ]
    assert [one["labels"] for one in upnext("releases", registry, "--json").json] == [
        [],
        ["stable"],
    ]
    back = upnext("rollback", registry, "stable", "--reason", "worse")
    assert (back.status, back.stderr.splitlines()[-1]) == (0, "stable: 2 → 1")
    table = upnext("releases", registry)
    assert table.status == 0
    assert "stable" in table.stdout.splitlines()[1]
    assert "…" not in table.stdout, "what a pipe gets is not cut short"
    asked = upnext("recommend", registry, "--release", "stable", "--json")
    assert asked.json["release"] == "1"


def test_recommend_loads_nothing_that_trains(tiny_release: TrainedRelease) -> None:
    command = [sys.executable, "-c", RUN, "recommend", str(tiny_release.registry), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["items"]) == 10
    assert done.stderr == "loaded:\n"


def test_serve_answers_until_it_is_interrupted_and_loads_nothing_that_trains(
    registry: Path,
) -> None:
    move_label(registry, "stable", 1)
    command = [sys.executable, "-c", RUN, "serve", str(registry), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            said = server.stderr.readline()
            told = re.fullmatch(r"serving (.+) on (http://127\.0\.0\.1:\d+)\n", said)
            assert told is not None, said
            question = {"user_id": "u00003", "k": 4}
            answer = post(f"{told[2]}/v1/recommendations", json=question)
        finally:
            server.send_signal(signal.SIGINT)
        rest = server.stderr.read()
    assert told[1] == str(registry)
    assert (answer.status_code, len(answer.json()["items"])) == (200, 4)
    assert server.returncode == 0
    assert rest == "loaded:\n"


def test_serve_says_that_no_label_tells_which_release_answers(registry: Path) -> None:
    command = [sys.executable, "-c", RUN, "serve", str(registry), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            said = [server.stderr.readline(), server.stderr.readline()]
            url = said[0].split()[-1]
            answer = post(f"{url}/v1/recommendations", json={"user_id": "u00003"})
        finally:
            server.send_signal(signal.SIGINT)
        server.stderr.read()
    assert said[1].startswith("no label yet: `upnext label REGISTRY stable VERSION`")
    assert answer.status_code == 503
    assert "`upnext label REGISTRY stable VERSION`" in answer.json()["error"]["hint"]


def test_the_demo_goes_the_whole_way(upnext: Upnext, logs: Path, tiny_run_toml: Path) -> None:
    """On logs and settings that are already there, which it uses again."""
    shutil.copyfile(tiny_run_toml, logs.parent / "run.toml")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = upnext("demo", logs.parent, "--once", "--port", port)
    assert ended.status == 0
    assert "Policies: true expected watch time" in ended.stdout
    assert "Recommendations for u00017, release 1 (stable):\n  1. " in ended.stdout
    assert "labelled release 1 stable" in ended.stderr
    assert upnext("recommend", logs.parent / "registry", "--release", "stable").status == 0


def _publish_again(registry: Path) -> None:
    """The same files as a second release."""
    first = open_release(registry, 1)

    def write_files(directory: Path) -> Mapping[str, Any]:
        for name in first.files:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(first.path / name, directory / name)
        return first.metadata

    publish(registry, write_files)
