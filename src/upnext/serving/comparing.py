"""Does the index still find what it should? Now and then a live request is searched for exactly.

An index is measured when it is built, with the requests of that day. Comparing takes as long as
many answers on a large catalogue, so it has a thread of its own, is begun only while nobody waits,
and is done one at a time. Its thread has the priority of all others: one that others go before may
be kept from running while it holds the interpreter, and then everybody waits for it.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from upnext.schema import RecommendationRequest
from upnext.serving.releases import LiveReleases, NotServedError, Recommender

logger = logging.getLogger(__name__)

Compare = Callable[[Recommender, RecommendationRequest], float | None]
"""Share of what an exact search finds for a request that the index finds; None: it is exact."""


class Comparing:
    """Compares indexes, by `compare`, and has the outcome told. Belongs to one event loop.

    `tell`: told the release and the share.
    """

    def __init__(
        self, live: LiveReleases, compare: Compare, tell: Callable[[str, float], None]
    ) -> None:
        self._live, self._compare, self._tell = live, compare, tell
        self._thread = ThreadPoolExecutor(1, "compare")
        self._is_busy = False

    async def of(self, version: int, request: RecommendationRequest) -> None:
        """Compares the index of a version by a request, unless it is at one already."""
        if self._is_busy:
            return
        self._is_busy = True
        try:
            with self._live.acquire(version=version) as route:
                recommender = route.recommender
                recall = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._compare, recommender, request
                )
            if recall is not None:
                self._tell(recommender.release, recall)
        except NotServedError:
            pass  # the release was let go meanwhile
        except Exception:  # what nobody waits for fails nobody
            logger.exception("the index of release %d could not be compared", version)
        finally:
            self._is_busy = False

    def close(self) -> None:
        """Ends once what it is at is done."""
        self._thread.shutdown()
