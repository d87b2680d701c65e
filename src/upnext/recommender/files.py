"""What a release keeps for answering: arrays by name, networks."""

from typing import Any

import onnxruntime
from numpy.typing import NDArray

from upnext.registry.release import Release


def arrays_in(release: Release, folder: str) -> dict[str, NDArray[Any]]:
    """The arrays that lie in a folder of the release, mapped into memory, by name."""
    prefix = f"{folder}/"
    return {
        name.removeprefix(prefix).removesuffix(".npy"): release.array(name)
        for name in release.files
        if name.startswith(prefix) and name.endswith(".npy")
    }


def network(release: Release, name: str, num_threads: int) -> onnxruntime.InferenceSession:
    """A network of the release, ready to run on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        release.file(name), options, providers=["CPUExecutionProvider"]
    )
