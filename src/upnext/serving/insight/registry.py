"""The routes that tell what lies in a registry; they answer though no release is loaded."""

from collections.abc import Sequence

from upnext.serving.endpoints import Endpoint
from upnext.serving.insight.data import DATA_ENDPOINTS
from upnext.serving.insight.releases import RELEASE_ENDPOINTS
from upnext.serving.insight.slow import SLOW_ENDPOINTS
from upnext.serving.insight.traffic import TRAFFIC_ENDPOINTS
from upnext.serving.insight.training import TRAINING_ENDPOINTS

REGISTRY_INSIGHT_ENDPOINTS: Sequence[Endpoint] = (
    *RELEASE_ENDPOINTS,
    *TRAINING_ENDPOINTS,
    *DATA_ENDPOINTS,
    *TRAFFIC_ENDPOINTS,
    *SLOW_ENDPOINTS,
)
"""Every route that reads files alone."""
