"""One request, from a release alone: history → user vector → candidates → ranked list."""

from upnext.recommender.config import RecommenderConfig
from upnext.recommender.recommender import Recommender

__all__ = ["Recommender", "RecommenderConfig"]
