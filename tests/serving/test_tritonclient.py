"""Triton's own client against a running server: binary tensors, as it sends by default, and JSON.

The client wants other versions of libraries than upnext, so it runs in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upnext.serving.app import create_app
from upnext.serving.server import running_server

if TYPE_CHECKING:
    from tests.serving.conftest import FakeAnswering

PYTHON = Path(__file__).parents[2] / ".venv-tritonclient" / "bin" / "python"
PROGRAM = """
import json, sys
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
told = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready("recommend"),
    "model_not_ready": client.is_model_ready("half"),
    "server": client.get_server_metadata(),
    "model": client.get_model_metadata("recommend", "2"),
    "answers": [],
}
values = {
    "user_id": np.array(["é".encode(), b"u2"], dtype=np.object_),
    "history": np.array([[b"v1", b"v2"], [b"v3", b""]], dtype=np.object_),
    "k": np.array([2, 1]),
    "exclude_watched": np.array([True, False]),
}
kinds = {"user_id": "BYTES", "history": "BYTES", "k": "INT64", "exclude_watched": "BOOL"}
names = ["item_ids", "expected_watch_time_s"]
for is_binary in (True, False):
    for asked in (names, None):
        inputs = []
        for name, array in values.items():
            inputs.append(triton.InferInput(name, list(array.shape), kinds[name]))
            if not is_binary and array.dtype == object:
                texts = [value.decode() for value in array.flat]
                array = np.array(texts, object).reshape(array.shape)
            inputs[-1].set_data_from_numpy(array, binary_data=is_binary)
        outputs = asked and [triton.InferRequestedOutput(name, is_binary) for name in asked]
        result = client.infer("recommend", inputs, "2", outputs, request_id="r")
        items = result.as_numpy("item_ids")
        told["answers"].append({
            "id": result.get_response()["id"],
            "version": result.get_response()["model_version"],
            "items": [[x.decode() if isinstance(x, bytes) else x for x in row] for row in items],
            "seconds": result.as_numpy("expected_watch_time_s").tolist(),
        })
try:
    client.infer("recommend", inputs[:1], "9")
except triton.InferenceServerException as error:
    told["error"] = error.message()
print(json.dumps(told))
"""


@pytest.fixture
def told(answering: FakeAnswering) -> dict[str, Any]:
    if not PYTHON.exists():
        pytest.skip("no .venv-tritonclient; `make test` makes it")
    with running_server(create_app(answering)) as url:
        command = [str(PYTHON), "-c", PROGRAM, url.removeprefix("http://")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_client_gets_answers_in_binary_and_in_json(
    told: dict[str, Any], answering: FakeAnswering
) -> None:
    assert [told["live"], told["ready"], told["model_ready"]] == [True, True, True]
    assert not told["model_not_ready"]
    assert told["server"]["extensions"] == ["binary_tensor_data"]
    assert told["model"]["versions"] == ["1", "2"]
    answer = {
        "id": "r",
        "version": "2",
        "items": [["v0", "v1"], ["v0", ""]],
        "seconds": [[60.0, 59.0], [60.0, 0.0]],
    }
    assert told["answers"] == [answer] * 4
    assert told["error"].startswith("label: expected a loaded release")
    requests = [asked.request for asked in answering.asked]
    assert len(requests) == 8
    assert requests == requests[:2] * 4
    assert [request.user_id for request in requests[:2]] == ["é", "u2"]
    assert [len(request.history or ()) for request in requests[:2]] == [2, 1]
