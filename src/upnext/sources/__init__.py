"""Counted candidates: what plain counts of the logs would propose, beside retrieval."""

from upnext.sources.popular import MostWatched, most_watched, most_watched_lately
from upnext.sources.together import WatchedTogether, WatchedTogetherConfig, watched_together

__all__ = [
    "MostWatched",
    "WatchedTogether",
    "WatchedTogetherConfig",
    "most_watched",
    "most_watched_lately",
    "watched_together",
]
