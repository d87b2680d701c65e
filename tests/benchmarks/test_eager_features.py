"""The rival ranks by the same features; and two ways to write them agree."""

import numpy as np
import pytest
import torch
from benchmarks.rivals.eager_features import EagerFeatures
from tests.raw_inputs import NUM_IDS, random_inputs

from upnext.features.features import CANDIDATE_LEVELS, QUERY_LEVELS, RankingFeatures
from upnext.features.liking import Manners

ALL_IDS = np.arange(NUM_IDS, dtype=np.int32)


def some_features() -> RankingFeatures:
    rng = np.random.default_rng(0)
    vectors = np.ones((NUM_IDS, 4))
    vectors[:, :3] = rng.standard_normal((NUM_IDS, 3))
    manners = Manners(
        log_odds=rng.normal(-1, 1, NUM_IDS),
        vectors=vectors,
        moments=vectors[:, :, None] * vectors[:, None] + 0.3 * np.eye(4),
        precision=rng.uniform(2, 6, 4),
        tag_precision=np.array([3.0]),
        num_tags=np.array([NUM_IDS - 1]),
    )
    features = RankingFeatures.unfitted(num_sources=2, manners=manners, powers=True, logs=True)
    values = [features.raw(random_inputs(seed, num_candidates=60)) for seed in range(100, 110)]
    queries, candidates = (np.concatenate(each, axis=1) for each in zip(*values, strict=True))
    return features.fitted(queries, candidates)


@pytest.mark.parametrize("seed", range(12))
def test_eager_features_are_the_compiled_ones(seed: int) -> None:
    features = some_features()
    inputs = random_inputs(seed, num_requests=1, num_candidates=20)
    eager = EagerFeatures(features, channels=ALL_IDS, tags=ALL_IDS)
    told = eager.levels({name: torch.from_numpy(array) for name, array in inputs.items()})
    queries, candidates = features.levels(inputs)
    np.testing.assert_allclose(told[QUERY_LEVELS], queries, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(told[CANDIDATE_LEVELS], candidates, rtol=1e-4, atol=1e-5)
    assert candidates.std() > 0.1
