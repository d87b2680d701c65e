"""Where the console listens, and what it refuses to do without being told to."""

import socket
from pathlib import Path
from typing import Any

import pytest

from upnext.console.running import run_console
from upnext.errors import ConfigError

URLS: dict[str, Any] = {
    "server_url": "http://127.0.0.1:8080",
    "managed_url": "http://127.0.0.1:8081",
}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_nothing_listens_beyond_this_machine_without_being_told_to(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        run_console(**URLS, host=host, port=0)


@pytest.mark.parametrize("wrong", ["127.0.0.1:8080", "ftp://host", "", "http://", "http://h:99999"])
@pytest.mark.parametrize("name", list(URLS))
def test_what_is_no_address_is_refused(name: str, wrong: str) -> None:
    flag = "--server" if name == "server_url" else "--managed"
    with pytest.raises(ConfigError, match=flag):
        run_console(**{**URLS, name: wrong}, port=0)


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: expected a free port"):
            run_console(**URLS, port=port)


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe"])
def test_a_token_that_is_none_is_told_and_not_shown(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="--read-token-file"):
        run_console(**URLS, port=0, read_token_file=path)


def test_a_shared_console_must_know_its_own_name() -> None:
    with pytest.raises(ConfigError, match="--allowed-host"):
        run_console(**URLS, host="0.0.0.0", port=0, allow_remote=True)
