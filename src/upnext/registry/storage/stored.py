"""Releases on storage: there once their manifest is, which is written last.

URL/releases/3/manifest.sha256   written first: who may push release 3, and nobody another
URL/releases/3/...               the files
URL/releases/3/manifest.json     written last; whoever reads asks for this alone
"""

import re
from dataclasses import dataclass

from upnext.errors import ReleaseError
from upnext.registry.release import MANIFEST, SEAL, Manifest, decode_manifest
from upnext.registry.storage.objects import Storage

RELEASES = "releases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A published release on storage: its manifest, the bytes of it, and those of its hash."""

    manifest: Manifest
    content: bytes
    seal: bytes


def folder_of(version: int) -> str:
    """Where the objects of a release lie."""
    return f"{RELEASES}/{version}"


def list_stored(storage: Storage) -> list[int]:
    """The versions of all releases on storage, oldest first; a push under way is none yet.

    Raises: StorageError: it cannot be asked.
    """
    names = storage.sizes_below(RELEASES)
    found = (re.fullmatch(f"([1-9][0-9]*)/{re.escape(MANIFEST)}", name) for name in names)
    return sorted(int(one[1]) for one in found if one)


def read_stored(storage: Storage, version: int) -> Stored:
    """The manifest of a release on storage.

    Raises: ReleaseError: there is no such release, or it is not what was published.
    """
    folder = folder_of(version)
    there = storage.sizes_below(folder)
    if MANIFEST not in there:
        begun = "a push of it was begun and has not ended; " if SEAL in there else ""
        published = ", ".join(map(str, list_stored(storage))) or "nothing yet"
        raise ReleaseError(
            storage.where(folder),
            expected="a release",
            got="none",
            hint=f"{begun}published: {published}.",
        )
    content, seal = storage.read(f"{folder}/{MANIFEST}"), storage.read(f"{folder}/{SEAL}")
    where = storage.where(f"{folder}/{MANIFEST}")
    manifest = decode_manifest(content, seal, where)
    if manifest.version != version:
        got = str(manifest.version)
        raise ReleaseError(where, expected=f"version {version}", got=got)
    return Stored(manifest=manifest, content=content, seal=seal)
