"""What is true of the simulated platform: how likely anyone clicks on anything, and watches it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from upnext.config import config_from_table, config_to_table
from upnext.errors import DataError
from upnext.logs.simulation.naming import numbered_ids
from upnext.logs.simulation.world import STYLE_SIZE, SimulationConfig, World, draw_world
from upnext.schema import MS_PER_DAY, Floats, Rows, TimesMs

STYLE_EFFECT = 0.25
"""How much a channel's manner weighs in affinity; its own spread is 1."""


@dataclass(frozen=True)
class Truth:
    """The expected watch time of any item for any user at any time, in closed form.

    Rows are the world's own, counted from 0 (`user_rows`, `item_rows` turn ids into them); they
    are not the rows of a vocabulary. `user_rows` and `at_ms` are [B]; `item_rows` and the counts
    are [B, K]; results are [B, K] float32.
    """

    world: World

    def affinity(self, user_rows: Rows, item_rows: Rows) -> Floats:
        """How well an item fits a user, about 0 to 1.

            a(u, i) = s_i taste_u[main_i] + (1 − s_i) taste_u[second_i] + 0.25 style_u · style_i / 2

        s_i is how much of the item is about its main topic; the style is that of its channel.
        """
        catalogue, audience = self.world.catalogue, self.world.audience
        users = user_rows[:, None]
        share = catalogue.main_shares[item_rows]
        main = audience.tastes[users, catalogue.main_topics[item_rows]]
        second = audience.tastes[users, catalogue.second_topics[item_rows]]
        manner = np.einsum(
            "bd,bkd->bk",
            audience.styles[user_rows],
            catalogue.channel_styles[catalogue.channels[item_rows]],
        )
        style_effect = np.float32(STYLE_EFFECT / STYLE_SIZE**0.5)
        affinity: Floats = share * main + (1 - share) * second + style_effect * manner
        return affinity

    def click_probability(
        self,
        user_rows: Rows,
        item_rows: Rows,
        at_ms: TimesMs,
        num_shown_before: ArrayLike,
        num_watched_before: ArrayLike,
    ) -> Floats:
        """Probability of a click, given that the slot was looked at; 0 before publication.

            σ( bias + c_a a + c_q quality + c_b clickbait + c_f 2^(−age / half-life)
               − c_s log(1 + num_shown_before) − c_w [num_watched_before > 0] )

        The counts are over the user's last `fatigue_memory` impressions and watches, strictly
        before `at_ms`; see `upnext.logs.simulation.fatigue`.
        """
        catalogue, b = self.world.catalogue, self.world.config.behaviour
        age_ms = at_ms[:, None] - catalogue.published_at_ms[item_rows]
        half_lives = (age_ms / (b.freshness_half_life_days * MS_PER_DAY)).astype(np.float32)
        shown = np.asarray(num_shown_before, dtype=np.float32)
        logits = (
            np.float32(b.click_bias)
            + np.float32(b.click_affinity) * self.affinity(user_rows, item_rows)
            + np.float32(b.click_quality) * catalogue.qualities[item_rows]
            + np.float32(b.click_clickbait) * catalogue.clickbaits[item_rows]
            + np.float32(b.click_freshness) * np.exp2(-np.maximum(half_lives, 0))
            - np.float32(b.click_fatigue) * np.log1p(shown)
            - np.float32(b.click_rewatch) * (np.asarray(num_watched_before) > 0)
        )
        return np.where(age_ms >= 0, _sigmoid(logits), np.float32(0))

    def mean_watch_share(self, user_rows: Rows, item_rows: Rows) -> Floats:
        """Mean share of its duration that a watch of the item lasts.

        floor + (1 − floor) σ( bias + d_a a + d_q quality − d_b clickbait
                               − d_l log(duration / (patience_s · patience_u)) )
        """
        catalogue, b = self.world.catalogue, self.world.config.behaviour
        patience_s = np.float32(b.patience_s) * self.world.audience.patience[user_rows]
        logits = (
            np.float32(b.share_bias)
            + np.float32(b.share_affinity) * self.affinity(user_rows, item_rows)
            + np.float32(b.share_quality) * catalogue.qualities[item_rows]
            - np.float32(b.share_clickbait) * catalogue.clickbaits[item_rows]
            - np.float32(b.share_length)
            * np.log(catalogue.durations_s[item_rows] / patience_s[:, None])
        )
        return np.float32(b.share_floor) + np.float32(1 - b.share_floor) * _sigmoid(logits)

    def expected_watch_time_s(
        self,
        user_rows: Rows,
        item_rows: Rows,
        at_ms: TimesMs,
        num_shown_before: ArrayLike,
        num_watched_before: ArrayLike,
    ) -> Floats:
        """Expected seconds of watch time a slot that is looked at.

            click_probability × mean_watch_share × duration

        It is exact: shares are drawn with exactly that mean. For a slot of a page multiply by
        `examination(position)`.
        """
        clicks = self.click_probability(
            user_rows, item_rows, at_ms, num_shown_before, num_watched_before
        )
        shares = self.mean_watch_share(user_rows, item_rows)
        return clicks * shares * self.world.catalogue.durations_s[item_rows]

    def examination(self, positions: ArrayLike) -> Floats:
        """Probability that the slot is looked at: (1 + position) ^ −decay, whoever looks."""
        decay = self.world.config.behaviour.examination_decay
        return ((1.0 + np.asarray(positions)) ** -decay).astype(np.float32)

    def draw_watch_shares(self, rng: np.random.Generator, mean_shares: Floats) -> Floats:
        """One share a watch, with the given means.

        floor + (1 − floor) Beta(m κ, (1 − m) κ),   m = (mean − floor) / (1 − floor)
        """
        b = self.world.config.behaviour
        m = (mean_shares.astype(np.float64) - b.share_floor) / (1 - b.share_floor)
        m = np.clip(m, 1e-6, 1 - 1e-6)
        beta = rng.beta(m * b.share_concentration, (1 - m) * b.share_concentration)
        return (b.share_floor + (1 - b.share_floor) * beta).astype(np.float32)

    def num_published(self, at_ms: TimesMs) -> NDArray[np.int64]:
        """How many items are published by each time; they are the rows 0 .. this − 1."""
        return np.searchsorted(self.world.catalogue.published_at_ms, at_ms, side="right")

    def user_rows(self, ids: pl.Series) -> Rows:
        """The world's row of each user id. Raises: DataError: an id is not of this world."""
        return _rows(ids, numbered_ids("u", self.world.config.num_users), "user_id")

    def item_rows(self, ids: pl.Series) -> Rows:
        """The world's row of each item id. Raises: DataError: an id is not of this world."""
        return _rows(ids, numbered_ids("v", self.world.config.num_items), "item_id")


def save_truth(config: SimulationConfig, directory: Path) -> None:
    """Keeps the settings, from which `load_truth` draws the same world again."""
    path = _truth_file(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config_to_table(config), indent=2) + "\n", encoding="utf-8")


def load_truth(directory: Path) -> Truth:
    """The truth behind logs that `simulate` wrote into `directory`.

    Raises:
        DataError: the logs were not simulated, or the world drawn now is not the one in them.
        ConfigError: the kept settings are damaged.
    """
    path = _truth_file(directory)
    if not path.is_file():
        hint = "only simulated logs have a truth; `upnext simulate` writes it."
        raise DataError(str(path), expected="the settings of a simulation", got="none", hint=hint)
    table = json.loads(path.read_text(encoding="utf-8"))
    world = draw_world(config_from_table(table, SimulationConfig, where=str(path)))
    durations_s = pl.read_parquet(directory / "items.parquet")["duration_s"].to_numpy()
    drawn_s = world.catalogue.durations_s
    if durations_s.shape != drawn_s.shape or not np.allclose(durations_s, drawn_s, rtol=1e-3):
        raise DataError(
            str(directory / "items.parquet"),
            expected="the items that the kept settings give",
            got="other durations",
            hint="the logs were simulated by another version; simulate them again.",
        )
    return Truth(world)


def _truth_file(directory: Path) -> Path:
    return directory / "truth" / "simulation.json"


def _rows(ids: pl.Series, known: pl.Series, column: str) -> Rows:
    rows = ids.cast(pl.String).str.slice(1).cast(pl.Int32, strict=False).fill_null(-1).to_numpy()
    inside = (rows >= 0) & (rows < len(known))
    same = known.gather(np.where(inside, rows, 0)) == ids.cast(pl.String)
    strange = ~(inside & same.fill_null(False).to_numpy())
    if strange.any():
        got = repr(ids[int(np.argmax(strange))])
        raise DataError(f"truth {column}", expected="an id of the simulated world", got=got)
    return rows


def _sigmoid(logits: Floats) -> Floats:
    probabilities: Floats = np.float32(1) / (np.float32(1) + np.exp(-logits))
    return probabilities
