"""Draws negatives: item rows, and the log of how often each was to be expected in the draw."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.schema import NUM_RESERVED_ROWS

SamplerName = Literal["uniform", "log_uniform", "unigram", "learned_unigram", "in_batch", "mixed"]

SNAPSHOT_GROWTH = 1.05
"""Learned counts become a new distribution when all of them together have grown by this factor: a
pass over a million items now and then, not at every step."""


class Negatives(NamedTuple):
    """Item rows [S], int64, and the log of the expected draws of each [S], float32."""

    rows: torch.Tensor
    log_expected: torch.Tensor


class Sampler(Protocol):
    """What training asks at every step: draw, then observe.

    With E_j, the expected draws of row j, the sum Σ_j exp(s_j) / E_j over a draw has the
    expectation Σ_j exp(s_j) over the catalogue, whatever the distribution.
    """

    def draw(self, positive_rows: torch.Tensor, generator: torch.Generator) -> Negatives:
        """Negatives to be shared by a batch whose positives are `positive_rows` [B]."""

    def log_expected(self, rows: torch.Tensor) -> torch.Tensor:
        """log E of any `rows` [B], positives too, in the draw last made: [B], float32."""

    def observe(self, positive_rows: torch.Tensor) -> None:
        """Counts positives that training has passed, where the sampler learns from them."""

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of what later draws depend on besides the generator; of most samplers nothing."""

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Goes on from such a state: later draws are the same, bit for bit."""


def negative_sampler(
    name: SamplerName,
    *,
    num_watches: NDArray[Any],
    power: float,
    num_negatives: int,
    unique: bool = False,
    device: torch.device | str = "cpu",
) -> Sampler:
    """A sampler over the rows of a catalogue whose items were watched `num_watches` [N] times.

        uniform          q_j = 1 / n
        log_uniform      q_j = log((r + 2) / (r + 1)) / log(n + 1), r the row's place from 0
        unigram          q_j ∝ (watches of j) ** power; an item without any counts as one
        learned_unigram  q_j ∝ (1 + positives of j that training has passed) ** power
        in_batch         the batch's own positives; q_j ∝ watches of j, its share among positives
        mixed            those and `num_negatives` uniform ones

    S tries make E_j = S · q_j expected draws. They are stratified: of the running sum of q, one try
    falls into each S-th, so that j comes up about as often as is expected, and Σ_j exp(s_j) / E_j
    varies far less than with independent tries. With `unique` no row comes up twice, and no try is
    spent on an item that is sure to come up: in place of S · q_j stands min(1, c · q_j), whose sum
    is S. Where strata meet, an item may come up in both; it is kept once, and E_j knows.

    In a batch an example's own positive is an accidental hit, so that the other B − 1 are its
    tries; `mixed` adds both sources up, E_j = (B − 1) · q_j + S / n, whichever brought the row (the
    balance heuristic), and with `unique` the chance that either does. Both suppose that the batch's
    positives fall independently, as often as `num_watches` says: give them the counts of the
    training examples, well shuffled.

    Rows 0 and 1 are reserved and never drawn; the others stand by falling number of watches.

    Sources: Jean et al. 2015, arXiv 1412.2007; Mikolov et al. 2013, arXiv 1310.4546 (the power);
    Yi et al. 2019, doi 10.1145/3298689.3346996 (in_batch); Yang et al. 2020,
    doi 10.1145/3366424.3386195 (mixed); Veach and Guibas 1995, doi 10.1145/218380.218498 (balance);
    Cochran 1977, "Sampling Techniques", chapters 5 and 9A (strata, unequal chances).
    """
    positives = torch.from_numpy(num_watches[NUM_RESERVED_ROWS:]).to(device).double()
    positives = torch.where(positives > 0, positives, 1.0)
    counts = positives.clamp(min=1)
    even = torch.ones_like(counts)
    match name:
        case "uniform":
            return _SteadySampler(_Tries.of(even, num_negatives, unique=unique))
        case "log_uniform":
            by_place = torch.arange(1, len(counts) + 1, device=device).double().reciprocal().log1p()
            return _SteadySampler(_Tries.of(by_place, num_negatives, unique=unique))
        case "unigram":
            return _SteadySampler(_Tries.of(counts**power, num_negatives, unique=unique))
        case "learned_unigram":
            return _LearnedSampler(even, power, num_negatives, unique)
        case "in_batch":
            return _SteadySampler(_Tries.of(even, 0, unique=unique), _shares(positives))
        case "mixed":
            drawn = _Tries.of(even, num_negatives, unique=unique)
            return _SteadySampler(drawn, _shares(positives))


def keep_probability(num_watches: NDArray[Any], threshold: float) -> NDArray[np.float64]:
    """Chance of a watch to become an example, by item [N]: subsampling of frequent items.

        min(1, sqrt(t / f) + t / f)        f the item's share of all watches, t the threshold

    So does the released word2vec; the paper's text keeps a word with the chance sqrt(t / f), having
    dropped it with 1 − sqrt(t / f). A threshold of 0 keeps everything.

    >>> keep_probability(np.array([0, 10, 90]), 0.1).round(3).tolist()
    [1.0, 1.0, 0.444]

    Source: Mikolov et al. 2013, arXiv 1310.4546, section 2.3.
    """
    if threshold == 0:
        return np.ones(len(num_watches))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = threshold * num_watches.sum() / num_watches.astype(np.float64)
    kept: NDArray[np.float64] = np.fmin(1.0, np.sqrt(ratio) + ratio)
    return kept


@dataclass(frozen=True)
class _Tries:
    """One try in each stratum [k, k + 1) of a running sum of expected draws; all [N], float64.

    `last`: the greatest number below the sum of all, as sums and places are rounded.
    With `unique` a row that comes up in two strata is kept once. `expected` are then chances.
    """

    num_tries: int
    until: torch.Tensor
    last: torch.Tensor
    expected: torch.Tensor
    unique: bool

    @classmethod
    def of(cls, weights: torch.Tensor, num_tries: int, *, unique: bool) -> "_Tries":
        """In proportion to the `weights` [n] of real items; reserved rows get no chance."""
        widths = _capped(weights, num_tries) if unique else weights * (num_tries / weights.sum())
        expected = torch.cat([weights.new_zeros(NUM_RESERVED_ROWS), widths])
        until = expected.cumsum(0)
        num_strata = min(num_tries, len(weights)) if unique else num_tries
        last = torch.nextafter(until[-1], until[0])
        chances = _chances(expected, until) if unique else expected
        return cls(num_strata, until, last, chances, unique)

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """Ascending rows. The generator may live on another device."""
        within = torch.rand(
            self.num_tries, dtype=torch.float64, generator=generator, device=generator.device
        )
        places = torch.arange(self.num_tries, device=within.device) + within
        places = torch.minimum(places.to(self.last.device), self.last)
        rows = torch.searchsorted(self.until, places, right=True)
        return torch.unique_consecutive(rows) if self.unique else rows


def _shares(weights: torch.Tensor) -> torch.Tensor:
    """[N]: of real items in proportion to their weights [n]."""
    return torch.cat([weights.new_zeros(NUM_RESERVED_ROWS), weights / weights.sum()])


def _capped(weights: torch.Tensor, num_draws: int) -> torch.Tensor:
    """min(1, c · weights) [n], with the c that makes it add up to `num_draws`, or to n."""
    if num_draws >= len(weights):
        return torch.ones_like(weights)
    falling = weights.sort(descending=True).values
    rest = falling.flip(0).cumsum(0).flip(0)
    num_left = num_draws - torch.arange(len(falling), device=falling.device)
    scale = num_left / rest  # where all before are sure to be drawn
    num_sure = int((scale * falling > 1).int().argmin())
    return (weights * scale[num_sure]).clamp(max=1.0)


def _chances(expected: torch.Tensor, until: torch.Tensor) -> torch.Tensor:
    """[N]: to come up in any stratum, of items that fill as much as one of them at most.

    An item of width a before an edge and b behind it does so with the chance a + b − a · b.
    """
    before = torch.cat([until.new_zeros(1), until[:-1]])
    edge = before.floor() + 1
    return expected - (edge - before) * (until - edge).clamp(min=0)


class _SteadySampler:
    """Tries and, if their shares [N] are given, the batch's positives."""

    def __init__(self, drawn: _Tries, in_batch: torch.Tensor | None = None) -> None:
        self.drawn, self.in_batch, self.num_others = drawn, in_batch, 1
        self.log_drawn = drawn.expected.log().float()

    def draw(self, positive_rows: torch.Tensor, generator: torch.Generator) -> Negatives:
        rows = self.drawn.draw(generator)
        if self.in_batch is not None:
            rows = torch.cat([positive_rows, rows])
            # Whoever is alone in a batch draws a hit and nothing else; 0 tries have no logarithm.
            self.num_others = max(len(positive_rows) - 1, 1)
            rows = torch.unique(rows) if self.drawn.unique else rows
        return Negatives(rows, self.log_expected(rows))

    def log_expected(self, rows: torch.Tensor) -> torch.Tensor:
        if self.in_batch is None:
            return self.log_drawn.index_select(0, rows)
        expected = self.drawn.expected[rows]
        share = self.in_batch[rows]
        if not self.drawn.unique:
            return (expected + self.num_others * share).log().float()
        # log1p and expm1 keep a chance of 1e-15 whole, of which 1 − (1 − q)^B would leave nothing.
        log_never = torch.log1p(-expected) + self.num_others * torch.log1p(-share)
        return torch.log(-torch.expm1(log_never)).float()

    def observe(self, positive_rows: torch.Tensor) -> None:
        """Nothing is learned."""

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Nothing was kept."""


class _LearnedSampler:
    """Draws by the counts so far, from a snapshot of them that serves until they have grown enough.

    Only a draw takes a new snapshot, so that a draw and its expectations never disagree. Counts
    [n] are whole numbers in float64, as the power wants them.
    """

    def __init__(
        self, counts: torch.Tensor, power: float, num_negatives: int, unique: bool
    ) -> None:
        self.power, self.num_negatives, self.unique = power, num_negatives, unique
        self.device = counts.device
        self.load_state({"counts": counts, "snapshot": counts})

    def draw(self, positive_rows: torch.Tensor, generator: torch.Generator) -> Negatives:
        if self.num_counted >= SNAPSHOT_GROWTH * self.num_in_snapshot:
            self._take_snapshot(self.counts)
        return self.current.draw(positive_rows, generator)

    def log_expected(self, rows: torch.Tensor) -> torch.Tensor:
        return self.current.log_expected(rows)

    def observe(self, positive_rows: torch.Tensor) -> None:
        places = positive_rows - NUM_RESERVED_ROWS
        self.counts.index_add_(0, places, torch.ones_like(places, dtype=self.counts.dtype))
        self.num_counted += len(places)

    def state(self) -> dict[str, torch.Tensor]:
        return {"counts": self.counts.clone(), "snapshot": self.snapshot.clone()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.counts = state["counts"].to(self.device, copy=True)
        self.num_counted = int(self.counts.sum())
        self._take_snapshot(state["snapshot"])

    def _take_snapshot(self, counts: torch.Tensor) -> None:
        self.snapshot = counts.to(self.device, copy=True)
        self.num_in_snapshot = int(counts.sum())
        weights = self.snapshot**self.power
        self.current = _SteadySampler(_Tries.of(weights, self.num_negatives, unique=self.unique))
