"""The command asks what the page asked, whatever stands in it."""

import json
import shlex
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.console.fake_server import FakeServer
from tests.patience import SOON_S

from upnext.console.curl import curl_command

bodies = st.dictionaries(
    st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
)


@given(bodies, st.booleans())
def test_a_shell_reads_back_the_body(body: dict[str, Any], has_token: bool) -> None:
    url = "http://127.0.0.1:8080/v1/recommendations"
    words = shlex.split(curl_command(url, body, has_token=has_token))
    assert words[:3] == ["curl", "-sS", url]
    assert json.loads(words[words.index("--data-raw") + 1]) == body
    headers = [words[place + 1] for place, word in enumerate(words) if word == "-H"]
    token = ["Authorization: Bearer $UPNEXT_TOKEN"] if has_token else []
    assert headers == ["Content-Type: application/json", *token]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_a_real_shell_sends_it_with_the_token_of_its_environment(fake: FakeServer) -> None:
    fake.answers["POST /v1/events"] = {"ok": True}
    body = {"user_id": 'o\'k "$HOME" `ls` \\ !\n@x', "k": 3}
    command = curl_command(f"{fake.url}/v1/events", body, has_token=True)
    told = subprocess.run(
        ["sh", "-c", command],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "UPNEXT_TOKEN": "a-secret"},
        capture_output=True,
        check=True,
        timeout=SOON_S,
    )
    assert json.loads(told.stdout) == {"ok": True}
    assert (fake.asked[-1].body, fake.asked[-1].token) == (body, "a-secret")
