"""Event files as TensorBoard reads them, written without it.

A file is a row of records (length, checksum, bytes, checksum), each one protocol buffer `Event`.
Source: tensorflow/core/util/event.proto, framework/summary.proto and lib/io/record_writer.h.
"""

import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""
WALL_TIME, STEP, FILE_VERSION, SUMMARY, SESSION_LOG = 1, 2, 3, 5, 7
"""Fields of an Event."""
CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC-32C, its bits reversed."""


class EventFile:
    """A new event file in a folder; each record is written out at once."""

    def __init__(self, directory: Path, *, first_step: int, at_s: float) -> None:
        """`first_step` tells TensorBoard to forget what older files say of it and later ones."""
        self.path = directory / f"events.out.tfevents.{time.time_ns():020d}.upnext"
        has_begun = _field(1, VARINT, _varint(1))
        self._append(_event(at_s, 0, FILE_VERSION, b"brain.Event:2"))
        self._append(_event(at_s, first_step, SESSION_LOG, has_begun))

    def add(self, step: int, scalars: Mapping[str, float], *, at_s: float) -> None:
        """One point of each curve."""
        values = b"".join(_field(1, BYTES, _value(*scalar)) for scalar in scalars.items())
        self._append(_event(at_s, step, SUMMARY, values))

    def _append(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        with self.path.open("ab") as file:
            file.write(length + _masked_crc(length) + event + _masked_crc(event))


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    def entry(crc: int) -> int:
        for _ in range(8):
            crc = (crc >> 1) ^ (CASTAGNOLI if crc & 1 else 0)
        return crc

    return tuple(map(entry, range(256)))


def _masked_crc(data: bytes) -> bytes:
    """Rotated and shifted, since a checksum of data that holds checksums would be weak."""
    crc = crc32c(data)
    rotated = (crc >> 15) | (crc << 17)
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def _event(at_s: float, step: int, field: int, content: bytes) -> bytes:
    return (
        _field(WALL_TIME, FIXED_64, struct.pack("<d", at_s))
        + _field(STEP, VARINT, _varint(step))
        + _field(field, BYTES, content)
    )


def _value(tag: str, value: float) -> bytes:
    """One point of one curve."""
    return _field(1, BYTES, tag.encode()) + _field(2, FIXED_32, struct.pack("<f", value))


def _field(number: int, wire_type: int, content: bytes) -> bytes:
    length = _varint(len(content)) if wire_type == BYTES else b""
    return _varint(number << 3 | wire_type) + length + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow.

    >>> _varint(300).hex()
    'ac02'
    """
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + _varint(number >> 7)
