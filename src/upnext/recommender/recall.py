"""How much does the index miss, of what a live request should have found?"""

from dataclasses import replace

from upnext.index import ExactIndex, IndexFacts
from upnext.index.recall import recall_of
from upnext.recommender.opened import OpenedRelease
from upnext.recommender.rules import allowed_by
from upnext.schema import LivePast, RecommendationRequest


def index_recall(
    release: OpenedRelease, request: RecommendationRequest, live: LivePast | None
) -> float | None:
    """The share of `Recommender.index_recall`.

        recall@K = |found ∩ nearest| / |nearest|

    of the K items that the index finds for this very request, and the K that are truly nearest;
    what may come again with its bonus, as in the request's page.
    """
    retriever = release.retriever
    if isinstance(retriever.index, ExactIndex):
        return None
    # Vectors that were searched before are known to be sound, so none is looked at for that.
    exact = ExactIndex(
        retriever.item_vectors, IndexFacts(kind="exact"), retriever.index.removed_rows
    )
    exactly = replace(retriever, index=exact)
    batch = release.batch([request], [live])
    vectors = retriever.user_vectors(batch.history, batch.user_rows, batch.at_ms)
    watched = batch.history.watches.all_before(batch.user_rows, batch.at_ms)[1]
    excluded, again = ([watched], None) if request.exclude_watched else (None, [watched])
    allowed = allowed_by(request.rules, release.encoder.catalogue).rows
    count = release.num_found(request.k)
    nearest, _ = exactly.nearest(vectors, count, excluded, allowed, again_rows=again)
    if (nearest < 0).all():
        return None
    found, _ = retriever.nearest(vectors, count, excluded, allowed, again_rows=again)
    return recall_of(found, nearest)
