"""A registry's releases and labels onto storage, each release there whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from upnext.errors import ReleaseError
from upnext.registry.journal import AskedMove
from upnext.registry.labels import read_moves, read_standings, resolve
from upnext.registry.release import MANIFEST, SEAL, Release, list_releases, open_release
from upnext.registry.storage.copying import Copied, Progress, Tell, in_threads
from upnext.registry.storage.labels import append_stored, read_stored_standings
from upnext.registry.storage.objects import Storage, open_storage
from upnext.registry.storage.stored import folder_of


def push(
    registry: Path,
    url: str,
    releases: Sequence[str] = (),
    *,
    labels: bool = False,
    say: Tell = lambda _: None,
    on_progress: Tell = lambda _: None,
) -> list[Copied]:
    """Publishes releases of a registry on storage too, by version or label; all if none is named.

    What is there already is not sent again. `labels` also moves the labels there to where they
    stand here, with the releases that they point at.

    Raises:
        ReleaseError: a release is missing or damaged here, or another of its version is there.
        StorageError: the storage cannot be reached, or does not do what releases need.
        LabelConflictError: a label was moved there meanwhile.
    """
    storage = open_storage(url)
    standings = read_standings(registry) if labels else {}
    named = [resolve(registry, name) for name in releases] or list_releases(registry)
    versions = sorted({*named, *(standing.version for standing in standings.values())})
    if not versions:
        raise ReleaseError(str(registry), expected="a release", got="none")
    storage.refuse_overwriting()
    copied = []
    for version in versions:
        copied.append(push_release(storage, open_release(registry, version), on_progress))
        say(copied[-1].to_text())
    if labels:
        _push_labels(registry, storage, say)
    return copied


def push_release(storage: Storage, release: Release, tell: Tell = lambda _: None) -> Copied:
    """Sends what of a release is not there yet, the manifest last.

    A push that was cut short, and one that runs beside this one, have sent the same bytes: the hash
    of the manifest was written first, and lets nobody push another release of this version.

    Raises: ReleaseError: another release of this version is there, or was begun.
    """
    folder = folder_of(release.version)
    if not storage.create(f"{folder}/{SEAL}", (release.path / SEAL).read_bytes()):
        raise _another(storage, release)
    there = storage.sizes_below(folder)
    missing = [name for name, one in release.files.items() if there.get(name) != one.size_bytes]
    missing_bytes = sum(release.files[name].size_bytes for name in missing)
    progress = Progress(f"pushing release {release.version}", missing_bytes, tell)
    in_threads(
        lambda name: storage.send(release.file(name), f"{folder}/{name}", progress.add),
        missing,
        stop=progress.stop,
    )
    if not storage.create(f"{folder}/{MANIFEST}", (release.path / MANIFEST).read_bytes()):
        raise _another(storage, release)
    return Copied(
        version=release.version,
        num_files=len(release.files),
        size_bytes=release.size_bytes,
        num_copied=len(missing),
        copied_bytes=missing_bytes,
    )


def _push_labels(registry: Path, storage: Storage, say: Tell) -> None:
    """Each label by one move, told as the last one here is; their releases are there."""
    last = {move.label: move for move in read_moves(registry)}
    there = read_stored_standings(storage)
    for label, standing in read_standings(registry).items():
        move, stored = last[label], there.get(label)
        before, back = (stored.version, stored.rollback_version) if stored else (None, None)
        if before == standing.version:
            continue
        goes_back = move.kind == "rollback" and back == standing.version
        asked = AskedMove(
            label=label,
            version=standing.version,
            kind="rollback" if goes_back else "move",
            expected_previous=before,
            actor=move.actor,
            reason=move.reason,
            moved_at=move.moved_at,
        )
        append_stored(storage, asked)
        say(f"{label}: {before or 'nothing'} → {standing.version}")


def _another(storage: Storage, release: Release) -> ReleaseError:
    folder = folder_of(release.version)
    published = MANIFEST in storage.sizes_below(folder)
    return ReleaseError(
        storage.where(folder),
        expected=f"release {release.version} as it is here, or none",
        got="another one" if published else "a push of another one that has not ended",
        hint="versions count up in each registry, so only one may push; train or extend it there."
        if published
        else "if nobody pushes it any more, remove that folder from storage.",
    )
