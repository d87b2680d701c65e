from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

import upnext.ranking.manners
from upnext.examples.encoder import Encoder
from upnext.examples.impressions import ImpressionExamples
from upnext.features.liking import Manners
from upnext.ranking.manners import Seen, learn_manners

NUM_USERS, NUM_CHANNELS, NUM_TAGS, TRUE_SIZE = 300, 40, 8, 2
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Impressions, and the manners and likings that they were watched by."""

    seen: Seen
    vectors: Numbers
    log_odds: Numbers


def drawn(*, liking: float, seed: int = 1, num_impressions: int = 60_000) -> Drawn:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((NUM_CHANNELS, TRUE_SIZE))
    likings = liking * rng.standard_normal((NUM_USERS, TRUE_SIZE))
    tag_likings = liking * rng.standard_normal((NUM_USERS, NUM_TAGS))
    log_odds = rng.normal(-1.5, 0.5, NUM_CHANNELS)
    users = rng.integers(NUM_USERS, size=num_impressions)
    channels = rng.integers(2, NUM_CHANNELS, size=num_impressions)
    tags = rng.integers(2, NUM_TAGS, size=(num_impressions, 2))
    odds = log_odds[channels] + (likings[users] * vectors[channels]).sum(axis=1)
    odds += tag_likings[users[:, None], tags].mean(axis=1)
    watched = rng.random(num_impressions) < 1 / (1 + np.exp(-odds))
    seen = Seen(
        users=users,
        channels=channels,
        tags=tags,
        shares=np.full(tags.shape, 0.5),
        watched=watched.astype(np.float64),
        num_users=NUM_USERS,
    )
    return Drawn(seen, vectors, log_odds)


def learned(seen: Seen, size: int = 4) -> Manners:
    return learn_manners(seen, size, num_channels=NUM_CHANNELS, num_tags=NUM_TAGS)


def explained(true: Numbers, found: Numbers) -> float:
    """Share of the variance of what is true that the best linear map of what was found tells."""
    inputs = np.column_stack([found, np.ones(len(found))])
    rest = true - inputs @ np.linalg.lstsq(inputs, true, rcond=None)[0]
    return float(1 - rest.var() / true.var())


def spread_of(manners: Manners) -> float:
    """Variance of the log-odds that likings of manners add."""
    return float(np.square(manners.vectors[2:, :-1]).mean(axis=0) @ (1 / manners.precision[:-1]))


def test_manners_are_found_again_up_to_a_turn() -> None:
    world = drawn(liking=0.7)
    found = learned(world.seen)
    assert explained(world.vectors[2:], found.vectors[2:, :-1]) > 0.9
    assert explained(world.log_odds[2:, None], found.log_odds[2:, None]) > 0.9
    assert found.tag_precision == pytest.approx(0.7**-2, rel=0.3)


def test_where_nobody_likes_anything_more_than_others_no_liking_is_learned() -> None:
    indifferent, liking = (learned(drawn(liking=spread).seen) for spread in (0.0, 0.7))
    assert spread_of(indifferent) < 0.1 * spread_of(liking)
    assert indifferent.tag_precision > 5 * liking.tag_precision


def test_a_channel_of_which_little_was_seen_is_known_to_be_uncertain() -> None:
    seen = drawn(liking=0.7).seen
    is_kept = (seen.channels != 5) | (np.arange(len(seen.channels)) < 500)
    few = replace(
        seen,
        **{
            name: getattr(seen, name)[is_kept]
            for name in ("users", "channels", "tags", "shares", "watched")
        },
    )
    found = learned(few)
    variances = found.moments - found.vectors[:, :, None] * found.vectors[:, None]
    spread = np.trace(variances, axis1=1, axis2=2)
    assert spread[5] > 2 * spread[6:].max()
    assert np.square(found.vectors[5, :-1]).sum() < np.square(found.vectors[6:, :-1]).sum(1).mean()


def test_every_vector_ends_with_the_1_of_eagerness() -> None:
    found = learned(drawn(liking=0.3, num_impressions=5_000).seen)
    assert (found.vectors[:, -1] == 1).all()
    np.testing.assert_allclose(found.moments[:, -1], found.vectors)


def test_seen_are_the_impressions_of_known_channels(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    masked = replace(examples, item_rows=np.where(np.arange(len(examples.item_rows)) % 3, 1, 2))
    seen = Seen.of(masked, encoder.catalogue, num_channels=1_000, num_tags=1_000)
    is_known = masked.item_rows == 2
    assert len(seen.watched) == is_known.sum() > 0
    assert set(seen.channels) == {encoder.catalogue.channel_rows[2]}
    assert seen.watched.sum() == examples.watched[is_known].sum()
    np.testing.assert_allclose(seen.shares.sum(axis=1), 1)
    beyond = Seen.of(masked, encoder.catalogue, num_channels=1_000, num_tags=2)
    assert not beyond.shares.any()
    assert not beyond.tags.any()


def test_of_many_impressions_those_of_some_users_are_seen_whole(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, examples: ImpressionExamples
) -> None:
    sizes = {"num_channels": 1_000, "num_tags": 1_000}
    everything = Seen.of(examples, encoder.catalogue, **sizes)
    most = len(examples.item_rows) // 3
    monkeypatch.setattr(upnext.ranking.manners, "MOST_IMPRESSIONS", most)
    some = Seen.of(examples, encoder.catalogue, **sizes)
    whole = np.sort(np.bincount(everything.users))
    assert 0 < some.num_users < everything.num_users
    assert set(np.bincount(some.users)) <= set(whole)
    assert len(some.users) <= most + whole.max()
