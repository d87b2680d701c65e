"""What does a ranker live on? How much worse it orders what was shown with one input shuffled.

    importance = weighted per-user loss, the input shuffled − weighted per-user loss

A shuffled input keeps its values and loses what they say of this request or candidate. What two
inputs both tell is missed under neither, and groups overlap (all that was watched holds the past
with the item), so that importances do not add up.

Source: Breiman 2001, "Random forests", section 10; Fisher, Rudin, Dominici 2019, "All models are
wrong, but many are useful", for models of any kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from upnext.evaluation.intervals import (
    MetricValue,
    Values,
    paired_bootstrap_interval,
    ratio_of_sums,
    sum_by_user,
)
from upnext.evaluation.metrics import mispredicted_watch_time
from upnext.evaluation.report import FeatureImportance
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.input_groups import OF_CANDIDATES, OF_REQUESTS, TIES_OF_CANDIDATES
from upnext.examples.places import places_of
from upnext.examples.ranking_inputs import RankingInputs
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.parts import Arrays
from upnext.recommender import Recommender
from upnext.recommender.batch import Batch
from upnext.recommender.ranker import Ranker

BATCH_SIZE = 250
AS_IT_IS = ""


@dataclass(frozen=True, kw_only=True)
class InputImportance:
    """The importance of each group of inputs that the release's ranker has, on some requests.

    `seed`: of what is shuffled; each batch shuffles by itself.
    """

    recommender: Recommender
    ranker: Ranker
    examples: ImpressionExamples
    seed: int = 0

    @classmethod
    def of(cls, bench: Bench) -> Self | None:
        """On requests of the test, drawn once; None where nothing was shown, or nothing ranks."""
        impressions, ranker = bench.split.test.impressions, bench.recommender.ranker
        if impressions is None or impressions.frame.is_empty() or ranker is None:
            return None
        encoder, config = bench.recommender.encoder, bench.config.evaluation
        every = build_impression_examples(encoder, bench.history, bench.users, impressions)
        count = min(config.num_importance_requests, every.num_requests)
        drawn = np.random.default_rng(0).choice(every.num_requests, count, replace=False)
        return cls(
            recommender=bench.recommender, ranker=ranker, examples=every.take(np.sort(drawn))
        )

    @property
    def num_events(self) -> int:
        """As many as there are requests."""
        return self.examples.num_requests

    @property
    def batch_size(self) -> int:
        """Requests that are encoded at once, and among which inputs are shuffled."""
        return BATCH_SIZE

    def measure(self, batch: slice) -> Arrays:
        """[m, 2] seconds mispredicted and compared, as things are and with each group shuffled."""
        examples = self.examples.take(np.arange(batch.start, batch.stop))
        inputs = _inputs(self.recommender, examples)
        outcome = (inputs.request_index, examples.watched, examples.watch_time_s)
        rng = np.random.default_rng([self.seed, batch.start])
        return {
            name: np.stack(
                mispredicted_watch_time(*outcome, self.ranker.seconds_of(arrays)), axis=1
            )
            for name, arrays in shuffled_inputs(inputs.arrays(), rng)
        }

    def importance(self, found: Arrays) -> tuple[FeatureImportance, ...]:
        """Of each group, the greatest first; 95% intervals are by user."""
        user_rows = np.repeat(self.examples.user_rows, np.diff(self.examples.starts))
        by_user = {
            name: [sum_by_user(user_rows, values) for values in seconds.T]
            for name, seconds in found.items()
        }
        before, compared = by_user.pop(AS_IT_IS)
        groups = [
            FeatureImportance(
                name=name,
                num_requests=self.num_events,
                loss_increase=_difference(after, before, compared),
            )
            for name, (after, _) in by_user.items()
        ]
        return tuple(sorted(groups, key=lambda one: -one.loss_increase.value))


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
