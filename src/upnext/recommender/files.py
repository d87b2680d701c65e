"""What a release keeps for answering: arrays by name, networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import onnxruntime
from numpy.typing import NDArray

from upnext.registry.release import Release
from upnext.schema import Floats


def arrays_in(release: Release, folder: str) -> dict[str, NDArray[Any]]:
    """The arrays that lie in a folder of the release, mapped into memory, by name."""
    prefix = f"{folder}/"
    return {
        name.removeprefix(prefix).removesuffix(".npy"): release.array(name)
        for name in release.files
        if name.startswith(prefix) and name.endswith(".npy")
    }


@dataclass(frozen=True)
class Network:
    """A network of a release, and the shapes of its inputs by name."""

    session: onnxruntime.InferenceSession
    inputs: Mapping[str, Sequence[int | str]]

    @classmethod
    def open(cls, release: Release, name: str, num_threads: int) -> Self:
        """Ready to run on so many threads."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            release.file(name), options, providers=["CPUExecutionProvider"]
        )
        return cls(session, {node.name: node.shape for node in session.get_inputs()})

    def __call__(self, feed: Mapping[str, NDArray[Any]]) -> Floats:
        """Its one output, for exactly its inputs."""
        output: Floats = self.session.run(None, feed)[0]
        return output
