import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.training.events import EventFile, crc32c

# RFC 3720, appendix B.4.
KNOWN = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
]


@pytest.mark.parametrize(("data", "checksum"), KNOWN)
def test_the_checksum_is_that_of_the_standard(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@given(st.binary(min_size=1), st.data())
def test_the_checksum_sees_each_flipped_bit(content: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << (place % 8)
    assert crc32c(bytes(flipped)) != crc32c(content)


def test_tensorboard_reads_the_scalars_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard, which reads these files")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file = EventFile(tmp_path, first_step=1, at_s=5.0)
    points = {1: 0.5, 127: -2.0, 128: 1e-6, 70_000: 3e8, 2**40: float("nan")}
    for step, value in points.items():
        file.add(step, {"loss": value, "epoch/größe": 2.0 * value}, at_s=1_700_000_000.25 + step)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert sorted(read.Tags()["scalars"]) == ["epoch/größe", "loss"]
    for name, factor in (("loss", 1.0), ("epoch/größe", 2.0)):
        told = read.Scalars(name)
        assert [point.step for point in told] == list(points)
        values = [point.value for point in told]
        expected = [value * factor for value in points.values()]
        assert values == pytest.approx(expected, rel=1e-6, nan_ok=True)
        assert [point.wall_time for point in told] == [1_700_000_000.25 + step for step in points]


def test_tensorboard_forgets_what_a_later_file_tells_anew(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard, which reads these files")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = EventFile(tmp_path, first_step=1, at_s=0.0)
    for step in (1, 2, 3, 4):
        first.add(step, {"loss": 1.0}, at_s=0.0)
    second = EventFile(tmp_path, first_step=3, at_s=1.0)
    second.add(3, {"loss": 2.0}, at_s=1.0)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    told = [(point.step, point.value) for point in read.Scalars("loss")]
    assert told == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_a_file_is_whole_records_at_any_time(tmp_path: Path) -> None:
    """Length, its checksum, so many bytes, their checksum: also before anything is closed."""
    file = EventFile(tmp_path, first_step=1, at_s=0.0)
    for step in range(1, 4):
        file.add(step, {"loss": 0.5}, at_s=0.0)
        content, num_records = file.path.read_bytes(), 0
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            content, num_records = content[16 + length :], num_records + 1
        assert num_records == 2 + step
