"""Item vectors in, the nearest candidates of a user vector out."""

from upnext.index.approximate import ApproximateIndex
from upnext.index.choose import IndexConfig, build_index, load_index
from upnext.index.exact import ExactIndex
from upnext.index.files import IndexFacts
from upnext.index.hashing import HashingIndex
from upnext.index.index import Index
from upnext.index.shards import ShardedIndex

__all__ = [
    "ApproximateIndex",
    "ExactIndex",
    "HashingIndex",
    "Index",
    "IndexConfig",
    "IndexFacts",
    "ShardedIndex",
    "build_index",
    "load_index",
]
