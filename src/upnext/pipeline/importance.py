"""What does a ranker live on? How much worse it orders what was shown with one input shuffled.

    importance = weighted per-user loss, the input shuffled − weighted per-user loss

A shuffled input keeps its values and loses what they say of this request or candidate. What two
inputs both tell is missed under neither, and groups overlap (all that was watched holds the past
with the item), so that importances do not add up.

Source: Breiman 2001, "Random forests", section 10; Fisher, Rudin, Dominici 2019, "All models are
wrong, but many are useful", for models of any kind.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.intervals import (
    MetricValue,
    Values,
    paired_bootstrap_interval,
    ratio_of_sums,
    sum_by_user,
)
from upnext.evaluation.metrics import mispredicted_watch_time
from upnext.evaluation.report import FeatureImportance
from upnext.examples.history import History
from upnext.examples.impressions import (
    ImpressionExamples,
    RankingInputs,
    build_impression_examples,
    places_of,
)
from upnext.examples.input_groups import OF_CANDIDATES, OF_REQUESTS, TIES_OF_CANDIDATES
from upnext.examples.vocabulary import Vocabulary
from upnext.recommender import Recommender
from upnext.recommender.batch import Batch
from upnext.recommender.ranker import Ranker
from upnext.schema import Impressions

Arrays = Mapping[str, NDArray[Any]]

BATCH_SIZE = 250
"""Requests that are encoded at once, and among which inputs are shuffled."""
AS_IT_IS = ""


def feature_importance(
    recommender: Recommender,
    history: History,
    users: Vocabulary,
    impressions: Impressions,
    *,
    num_requests: int,
    seed: int = 0,
) -> tuple[FeatureImportance, ...]:
    """The importance of each group of inputs that the release's ranker has, the greatest first.

    Measured on at most so many of the logged requests, drawn once; 95% intervals are by user.

    Args:
        seed: of the draw and of what is shuffled.

    Returns: nothing, where the release has no ranker.
    """
    if recommender.ranker is None:
        return ()
    rng = np.random.default_rng(seed)
    examples = build_impression_examples(recommender.encoder, history, users, impressions)
    count = min(num_requests, examples.num_requests)
    drawn = examples.take(np.sort(rng.choice(examples.num_requests, count, replace=False)))
    lost: dict[str, list[Values]] = {}
    for start in range(0, count, BATCH_SIZE):
        part = drawn.take(np.arange(start, min(start + BATCH_SIZE, count)))
        for name, of_impressions in _lost(recommender, recommender.ranker, part, rng):
            lost.setdefault(name, []).append(of_impressions)
    user_rows = np.repeat(drawn.user_rows, np.diff(drawn.starts))
    by_user = {
        name: [sum_by_user(user_rows, values) for values in np.concatenate(parts, axis=1)]
        for name, parts in lost.items()
    }
    before, compared = by_user.pop(AS_IT_IS)
    found = [
        FeatureImportance(
            name=name, num_requests=count, loss_increase=_difference(after, before, compared)
        )
        for name, (after, _) in by_user.items()
    ]
    return tuple(sorted(found, key=lambda one: -one.loss_increase.value))


def shuffled_inputs(arrays: Arrays, rng: np.random.Generator) -> Iterator[tuple[str, Arrays]]:
    """The inputs as they are, then with one group after another shuffled, by the group's name.

    What is of a request changes places with that of another, what is of a candidate with that of
    any other candidate. A group of which there is no column is left out.
    """
    yield AS_IT_IS, arrays
    for name, of_request in OF_REQUESTS.items():
        if all(arrays[one].size for one in of_request):
            order = rng.permutation(len(arrays[of_request[0]]))
            changed = {**arrays, **{one: arrays[one][order] for one in of_request}}
            yield name, {**changed, **_places(changed)}
    for name, of_candidate in {**OF_CANDIDATES, **TIES_OF_CANDIDATES}.items():
        if arrays[of_candidate].size:
            order = rng.permutation(len(arrays[of_candidate]))
            yield name, {**arrays, of_candidate: arrays[of_candidate][order]}


def _lost(
    recommender: Recommender, ranker: Ranker, examples: ImpressionExamples, rng: np.random.Generator
) -> Iterator[tuple[str, Values]]:
    """[2, M] seconds mispredicted and compared, as things are and with each group shuffled."""
    inputs = _inputs(recommender, examples)
    for name, arrays in shuffled_inputs(inputs.arrays(), rng):
        seconds = ranker.seconds_of(arrays)
        outcome = (inputs.request_index, examples.watched, examples.watch_time_s)
        yield name, np.stack(mispredicted_watch_time(*outcome, seconds))


def _places(arrays: Arrays) -> Arrays:
    places = places_of(
        arrays["history_rows"], arrays["shown_rows"], arrays["item_rows"], arrays["request_index"]
    )
    return places._asdict()


def _inputs(recommender: Recommender, examples: ImpressionExamples) -> RankingInputs:
    """As a server makes them, at the positions that were."""
    batch = Batch(examples.history, examples.user_rows, examples.at_ms)
    user_vectors = recommender.retriever.user_vectors(batch.history, batch.user_rows, batch.at_ms)
    return recommender.inputs(
        batch,
        recommender.nominators.moments(batch),
        user_vectors,
        np.repeat(np.arange(examples.num_requests), np.diff(examples.starts)),
        examples.item_rows,
        examples.position,
    )


def _difference(after: Values, before: Values, compared: Values) -> MetricValue:
    value = ratio_of_sums(after - before, compared)
    return MetricValue(value, *paired_bootstrap_interval(after, before, compared))
