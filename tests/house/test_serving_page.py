"""docs/serving.md is run, command by command, against a server and two small releases."""

from __future__ import annotations

import re
import shutil
import socket
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.house.pages import commands_of, run_script

from upnext.config import config_from_table
from upnext.registry.release import publish
from upnext.serving.config import ServingConfig

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_every_command_of_the_page_does_what_it_says(
    tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    registry = tmp_path / "registry"
    for _ in range(2):
        publish(registry, lambda directory: _copy(tiny_release, directory))
    script = commands_of(PAGE)
    public, admin = free_port(), free_port()
    script = script.replace("--processes 2", f"--processes 2 --port {public}")
    script = script.replace(":8080", f":{public}").replace("8081", str(admin))
    item = tiny_release.recommender.encoder.catalogue.items.id(5)
    said, complaints = run_script(script, tmp_path, {"ITEM": str(item)})
    for expected in (
        '"num_accepted":1',
        "stable 95.0%, canary 5.0%, unseen: canary 10.0%",
        "canary",
        'upnext_label_release{label="stable"}',  # told ten times a second, so which one may lag
    ):
        assert expected in said, said
    assert "stable: 1 → 2" in complaints
    assert "stable: 2 → 1" in complaints


def _copy(release: TrainedRelease, directory: Path) -> dict[str, object]:
    opened = release.release
    for name in opened.files:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(opened.path / name, target)
        target.chmod(0o644)
    return dict(opened.metadata)


def test_the_configuration_for_others_is_one() -> None:
    text = (ROOT / "deploy" / "serve.toml").read_text(encoding="utf-8")
    config = config_from_table(tomllib.loads(text), ServingConfig, where="deploy/serve.toml")
    assert config.http.allow_remote
    assert config.security.events_token_file
    assert config.security.admin_token_file


def test_what_deploys_runs_verbs_and_files_that_there_are() -> None:
    unit = (ROOT / "deploy" / "upnext.service").read_text(encoding="utf-8")
    container = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
    assert "upnext serve /var/lib/upnext/registry --config" in unit
    assert 'ENTRYPOINT ["upnext", "serve", "/registry"]' in container
    for name in re.findall(r"/src/(\S+)", container):
        assert (ROOT / name).exists()
