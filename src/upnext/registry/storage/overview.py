"""What lies on storage: each release and its labels, as of a registry on disk."""

from upnext.errors import ReleaseError
from upnext.registry.overview import Overview, labels_of
from upnext.registry.storage.copying import in_threads
from upnext.registry.storage.labels import read_stored_labels
from upnext.registry.storage.objects import open_storage
from upnext.registry.storage.stored import list_stored, read_stored


def stored_overview(url: str) -> list[Overview]:
    """Every release on storage, oldest first, by its manifest alone; a push under way is none yet.

    Raises: ReleaseError: the storage cannot be reached, or the journal of labels is damaged.
    """
    storage = open_storage(url)
    labels = read_stored_labels(storage)

    def row(version: int) -> Overview:
        here = labels_of(version, labels)
        try:
            manifest = read_stored(storage, version).manifest
        except ReleaseError as error:
            return Overview(version=version, labels=here, problem=str(error))
        return Overview(
            version=version,
            labels=here,
            created_at=manifest.created_at,
            train_until=manifest.metadata.get("train_until"),
            num_items=manifest.metadata.get("num_items"),
            size_bytes=sum(entry.size_bytes for entry in manifest.files.values()),
            training=manifest.metadata.get("training"),
        )

    return in_threads(row, list_stored(storage))
