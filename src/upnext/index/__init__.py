"""Item vectors in, the nearest candidates of a user vector out."""

from upnext.index.approximate import ApproximateIndex
from upnext.index.choose import Index, IndexConfig, build_index, load_index
from upnext.index.exact import ExactIndex
from upnext.index.files import IndexFacts
from upnext.index.hashing import HashingIndex

__all__ = [
    "ApproximateIndex",
    "ExactIndex",
    "HashingIndex",
    "Index",
    "IndexConfig",
    "IndexFacts",
    "build_index",
    "load_index",
]
