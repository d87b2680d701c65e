"""Counted candidates: what plain counts of the logs would propose, beside retrieval."""

from upnext.sources.blend import (
    NOMINATORS,
    SOURCES,
    Events,
    Moments,
    Nominations,
    Sources,
    SourcesConfig,
    fit_sources,
)
from upnext.sources.fresh import FreshUploads, Shown, fresh_uploads
from upnext.sources.popular import MostWatched, most_watched, most_watched_lately
from upnext.sources.together import WatchedTogether, WatchedTogetherConfig, watched_together

__all__ = [
    "NOMINATORS",
    "SOURCES",
    "Events",
    "FreshUploads",
    "Moments",
    "MostWatched",
    "Nominations",
    "Shown",
    "Sources",
    "SourcesConfig",
    "WatchedTogether",
    "WatchedTogetherConfig",
    "fit_sources",
    "fresh_uploads",
    "most_watched",
    "most_watched_lately",
    "watched_together",
]
