"""An invented video platform: its settings, its catalogue and its audience, drawn from a seed."""

import zlib
from dataclasses import dataclass, field, fields
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from upnext.errors import ConfigError
from upnext.logs.simulation.naming import DEVICES, REGIONS, TOPICS, Source
from upnext.schema import MS_PER_DAY, Floats, Rows, TimesMs

START_MS = 1_767_571_200_000
"""The first day begins on Monday 2026-01-05, 00:00 UTC."""
SHORTEST_S, LONGEST_S = 10.0, 7_200.0
"""Between these every item's duration lies."""
STYLE_SIZE = 4
"""Numbers that tell a channel's manner, and a user's liking for it."""
DEVICE_PATIENCE = np.array([0.6, 1.0, 1.2, 2.0], dtype=np.float32)
"""How the device stretches the length a user sits through, in the order of DEVICES."""


@dataclass(frozen=True, kw_only=True)
class LoggingWeights:
    """How often each source nominates an item for a slot; together they make 1."""

    popular: float = 0.35
    """By watches of the last days."""
    fresh: float = 0.2
    """By age: the newer, the likelier."""
    related: float = 0.3
    """Popular within a topic or channel that the user watched lately."""
    random: float = 0.15
    """Uniform over all published items; above 0, so that every item has a chance."""

    def __post_init__(self) -> None:
        weights = [getattr(self, source) for source in get_args(Source)]
        if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
            raise ConfigError(
                "simulation logging", expected="weights that make 1", got=f"{weights}"
            )
        if self.random <= 0:
            raise ConfigError(
                "simulation logging random",
                expected="a weight above 0",
                got=str(self.random),
                hint="without it a page might never find enough different items.",
            )


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What moves clicks and watch shares: the coefficients of the formulas in `Truth`."""

    click_bias: float = -3.5
    """Log-odds of a click on a plain old item without affinity."""
    click_affinity: float = 4.2
    """Log-odds a unit of affinity."""
    click_quality: float = 0.7
    """Log-odds a standard deviation of quality."""
    click_clickbait: float = 2.2
    """Log-odds from honest (0) to all bait (1)."""
    click_freshness: float = 1.2
    """Log-odds that a brand-new item has over an old one."""
    freshness_half_life_days: float = 3.0
    """Days until half of that is gone."""
    click_fatigue: float = 0.5
    """Log-odds lost a unit of log(1 + times shown lately)."""
    click_rewatch: float = 2.5
    """Log-odds lost once the item was watched lately."""
    share_bias: float = -0.8
    """Log-odds of the watch share of a plain item of the length the user has patience for."""
    share_affinity: float = 1.6
    """Log-odds a unit of affinity."""
    share_quality: float = 0.7
    """Log-odds a standard deviation of quality."""
    share_clickbait: float = 3.0
    """Log-odds lost from honest (0) to all bait (1)."""
    share_length: float = 1.1
    """Log-odds lost each time the item is e times longer."""
    share_floor: float = 0.02
    """The least share of an item that a watch lasts."""
    share_concentration: float = 3.0
    """Sum of the two Beta parameters; the larger, the closer shares lie to their mean."""
    patience_s: float = 240.0
    """Seconds that a typical user has patience for."""
    examination_decay: float = 0.5
    """Slot k (from 0) is looked at with probability (1 + k) to the minus this."""

    def __post_init__(self) -> None:
        for name in ("freshness_half_life_days", "share_concentration", "patience_s"):
            _require(getattr(self, name) > 0, f"behaviour {name}", "above 0", getattr(self, name))
        _require(0 <= self.share_floor < 1, "behaviour share_floor", "in [0, 1)", self.share_floor)


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """The size, the length and the rules of a simulated platform."""

    num_users: int = 2_000
    """Users; all are there from the first day."""
    num_items: int = 5_000
    """Items published before or during the simulation."""
    num_days: int = 30
    """Days, from 2026-01-05 UTC on."""
    seed: int = 7
    """Same seed, same settings: same bytes."""
    page_size: int = 10
    """Items shown a request."""
    num_channels: int = 300
    """Channels; their sizes follow Zipf's law."""
    num_topics: int = len(TOPICS)
    """Topics, at most as many as have names."""
    published_before_share: float = 1 / 3
    """Share of the items that are there when the first day begins."""
    median_duration_s: float = 240.0
    """Middle of the log-normal durations, in seconds; clipped to 10 s .. 2 h."""
    requests_per_day: float = 2.5
    """Mean requests a user a day; heavy-tailed over users."""
    search_probability: float = 0.15
    """Probability that a search and an organic watch come before a request."""
    fatigue_memory: int = 100
    """Impressions, and watches, that count against showing an item again."""
    popularity_days: int = 7
    """Days whose watches make an item popular."""
    fresh_days: float = 1.5
    """Days in which the fresh source's liking for an item falls by e."""
    related_memory: int = 5
    """Last watches from which the related source starts."""
    logging: LoggingWeights = field(default_factory=LoggingWeights)
    """Mixture of sources that fills the pages."""
    behaviour: Behaviour = field(default_factory=Behaviour)
    """How users click and watch."""

    def __post_init__(self) -> None:
        numbers = {setting.name for setting in fields(self)} - {"logging", "behaviour"}
        for name in sorted(numbers - {"seed", "search_probability"}):
            _require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        _require(self.seed >= 0, "seed", "0 or more", self.seed)
        probability = self.search_probability
        _require(0 <= probability <= 1, "search_probability", "0 to 1", probability)
        share = self.published_before_share
        _require(share <= 1, "published_before_share", "at most 1", share)
        _require(
            2 <= self.num_topics <= len(TOPICS), "num_topics", f"2..{len(TOPICS)}", self.num_topics
        )
        least = 2 * self.page_size
        _require(
            self.num_published_before >= least,
            "num_items",
            f"{least} published before the first day",
            self.num_published_before,
        )
        _require(
            max(self.page_size, self.related_memory) <= self.fatigue_memory,
            "fatigue_memory",
            "no less than page_size and related_memory",
            self.fatigue_memory,
        )

    @property
    def num_published_before(self) -> int:
        """Items that are there when the first day begins."""
        return round(self.num_items * self.published_before_share)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The items, in order of publication: the items published by t are always the first rows."""

    published_at_ms: TimesMs
    """[N] rising."""
    channels: Rows
    """[N] channel of the item."""
    main_topics: Rows
    """[N] what it is mostly about."""
    second_topics: Rows
    """[N] what else it is about."""
    main_shares: Floats
    """[N] how much of it is about the main topic, 0.6 to 1."""
    durations_s: Floats
    """[N] seconds, 10 to 7,200."""
    qualities: Floats
    """[N] standard normal."""
    clickbaits: Floats
    """[N] 0 honest to 1 all bait."""
    channel_topics: Rows
    """[C] the channel's own topic."""
    channel_styles: Floats
    """[C, 4] the channel's manner."""


@dataclass(frozen=True, kw_only=True)
class Audience:
    """The users: what they like, and when and how much they watch."""

    tastes: Floats
    """[U, T] liking for each topic, 0 to about 1."""
    styles: Floats
    """[U, 4] liking for a channel's manner."""
    requests_per_day: Floats
    """[U] mean requests a day."""
    favourite_hours: Floats
    """[U] hour of the day, UTC, around which the user comes."""
    patience: Floats
    """[U] what multiplies `patience_s`; the device has a say in it."""
    regions: Rows
    """[U] place in REGIONS; shifts tastes."""
    devices: Rows
    """[U] place in DEVICES; shifts patience."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A platform before its first day: the settings and all that they and the seed decide."""

    config: SimulationConfig
    catalogue: Catalogue
    audience: Audience


def draw_world(config: SimulationConfig) -> World:
    """Draws the catalogue and the audience; the same config always gives the same world."""
    return World(config=config, catalogue=_draw_catalogue(config), audience=_draw_audience(config))


def seeded(seed: int, purpose: str, day: int = 0, block: int = 0) -> np.random.Generator:
    """A stream of random numbers of its own for each purpose, day and block of users."""
    spawn_key = (zlib.crc32(purpose.encode()), day, block)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))


def _draw_catalogue(config: SimulationConfig) -> Catalogue:
    rng = seeded(config.seed, "catalogue")
    num, num_channels, num_topics = config.num_items, config.num_channels, config.num_topics
    channel_topics = rng.choice(num_topics, num_channels, p=_zipf(num_topics, 0.5))
    channel_seconds = rng.integers(num_topics, size=num_channels)
    channel_styles = rng.standard_normal((num_channels, STYLE_SIZE))
    channel_qualities = rng.standard_normal(num_channels)
    channel_baits = rng.beta(0.5, 1.5, num_channels)

    channels = rng.choice(num_channels, num, p=_zipf(num_channels, 0.8))
    strays = rng.random(num)
    main_topics = np.select(
        [strays < 0.75, strays < 0.95],
        [channel_topics[channels], channel_seconds[channels]],
        rng.integers(num_topics, size=num),
    )
    second_topics = np.where(
        rng.random(num) < 0.7, channel_seconds[channels], rng.integers(num_topics, size=num)
    )
    durations = config.median_duration_s * np.exp(0.9 * rng.standard_normal(num))
    qualities = 0.6 * channel_qualities[channels] + 0.8 * rng.standard_normal(num)
    clickbaits = 0.6 * channel_baits[channels] + 0.4 * rng.beta(0.5, 1.5, num)
    return Catalogue(
        published_at_ms=_draw_published_at_ms(rng, config),
        channels=channels.astype(np.int32),
        main_topics=main_topics.astype(np.int32),
        second_topics=second_topics.astype(np.int32),
        main_shares=rng.uniform(0.6, 1, num).astype(np.float32),
        durations_s=np.clip(durations, SHORTEST_S, LONGEST_S).astype(np.float32),
        qualities=qualities.astype(np.float32),
        clickbaits=clickbaits.astype(np.float32),
        channel_topics=channel_topics.astype(np.int32),
        channel_styles=channel_styles.astype(np.float32),
    )


def _draw_published_at_ms(rng: np.random.Generator, config: SimulationConfig) -> TimesMs:
    """The old stock is up to two years old, more of it recent; the rest comes evenly."""
    before = 1 + rng.random(config.num_published_before) ** 2 * (730 * MS_PER_DAY)
    num_later = config.num_items - config.num_published_before
    later = rng.integers(config.num_days * MS_PER_DAY, size=num_later)
    return np.sort(np.concatenate([START_MS - before.astype(np.int64), START_MS + later]))


def _draw_audience(config: SimulationConfig) -> Audience:
    rng = seeded(config.seed, "audience")
    num = config.num_users
    regions = rng.choice(len(REGIONS), num, p=_zipf(len(REGIONS), 0.5)).astype(np.int32)
    devices = rng.choice(len(DEVICES), num, p=[0.5, 0.1, 0.2, 0.2]).astype(np.int32)
    spread = 1.0
    activity = np.exp(spread * rng.standard_normal(num) - spread**2 / 2)
    patience = DEVICE_PATIENCE[devices] * np.exp(0.3 * rng.standard_normal(num))
    return Audience(
        tastes=_draw_tastes(rng, config, regions),
        styles=rng.standard_normal((num, STYLE_SIZE), dtype=np.float32),
        requests_per_day=np.minimum(config.requests_per_day * activity, 24).astype(np.float32),
        favourite_hours=rng.normal(19, 4, num).astype(np.float32) % 24,
        patience=patience.astype(np.float32),
        regions=regions,
        devices=devices,
    )


def _draw_tastes(rng: np.random.Generator, config: SimulationConfig, regions: Rows) -> Floats:
    """Two to five topics a user, each liked less than the one before; regions have their own."""
    num, num_topics, most = config.num_users, config.num_topics, min(5, config.num_topics)
    region_likings = rng.gumbel(size=(len(REGIONS), num_topics)).astype(np.float32)
    chances = np.log(_zipf(num_topics, 0.5)).astype(np.float32) + 0.5 * region_likings[regions]
    chances -= np.log(-np.log1p(-rng.random((num, num_topics), dtype=np.float32)) + 1e-12)
    favourites = np.argsort(-chances, axis=1, kind="stable")[:, :most]
    num_favourites = rng.integers(2, most + 1, num)
    ranks = np.arange(most)
    likings = 0.85**ranks * rng.uniform(0.7, 1, (num, most)) * (ranks < num_favourites[:, None])
    tastes = np.zeros((num, num_topics), dtype=np.float32)
    np.put_along_axis(tastes, favourites, likings.astype(np.float32), axis=1)
    region_tastes = np.maximum(0.1 * region_likings, 0).astype(np.float32)
    tastes += region_tastes[regions]
    return tastes


def _zipf(num: int, power: float) -> NDArray[np.float64]:
    weights = np.arange(1, num + 1, dtype=np.float64) ** np.float64(-power)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _require(holds: bool, key: str, expected: str, got: object) -> None:
    if not holds:
        raise ConfigError(f"simulation {key}", expected=expected, got=str(got))
