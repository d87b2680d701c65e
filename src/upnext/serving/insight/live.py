"""The routes that look into the releases which are loaded."""

from collections.abc import Sequence

from upnext.serving.endpoints import Endpoint
from upnext.serving.insight.items import ITEM_ENDPOINTS
from upnext.serving.insight.users import USER_ENDPOINTS

LIVE_INSIGHT_ENDPOINTS: Sequence[Endpoint] = (*ITEM_ENDPOINTS, *USER_ENDPOINTS)
"""Every route that needs a loaded release, and takes its turn among those who ask for pages."""
