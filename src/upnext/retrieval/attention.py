"""Causal self-attention over past watches: one pass gives the history vector of every moment."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from upnext.config import require
from upnext.errors import ConfigError
from upnext.examples.history import EventLog, Indices
from upnext.schema import UNKNOWN_ROW
from upnext.training.dropout import Dropout

BLOCK_CELLS = 2**14
"""Places for events in one block of segments, so that a pass over many windows stays small."""
ACCELERATOR_CELLS = 2**18
"""The same on an accelerator, to which a pad is cheaper than a call."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Sizes of the self-attention over past watches; its width is the embedding size."""

    num_blocks: int = 2
    """Blocks of attention and feed-forward network, one after the other."""
    num_heads: int = 1
    """Parts of the width that attend each for itself; divides the embedding size."""
    widening: int = 1
    """Hidden width of the feed-forward network, in multiples of the embedding size."""
    dropout: float = 0.2
    """Share of the entries that a training step drops, of the watches' embeddings and of what each
    half of a block adds to them."""
    watch_scale: float = 25.0
    """What watches' embeddings are multiplied by. A tied table wants small entries to begin with,
    some 0.02, so that its first scores say nothing; attention wants entries of about 1."""

    def __post_init__(self) -> None:
        counts = ("num_blocks", "num_heads", "widening")
        require(
            "retrieval.network.attention",
            self,
            at_least=dict.fromkeys(counts, 1) | {"dropout": 0},
            above={"watch_scale": 0},
        )
        if self.dropout >= 1:
            raise ConfigError(
                "[retrieval.network.attention] dropout", expected="below 1", got=str(self.dropout)
            )

    def check_width(self, embedding_size: int) -> None:
        """Raises ConfigError: the heads cannot share so wide a vector evenly."""
        if embedding_size % self.num_heads:
            raise ConfigError(
                "[retrieval.network.attention] num_heads",
                expected=f"a divisor of embedding_size, {embedding_size}",
                got=str(self.num_heads),
            )


class CausalAttention(nn.Module):
    """Self-attention in which each watch sees itself and those before it: [B, L, E] → [B, L, E].

    A watch knows how far before it another one lies, not its own place. So it makes no difference
    where a training segment was cut out of a long history, and what a training step computes once
    for all moments of a user is what serving computes for the last one.

    Source: Kang, McAuley 2018, SASRec, arXiv 1808.09781; a bias for each distance: Raffel et al.
    2020, arXiv 1910.10683, section 2.1.
    """

    def __init__(self, config: AttentionConfig, *, embedding_size: int, max_watches: int) -> None:
        """Blocks with random weights that at first attend to a distance d by about 1 / (1 + d).

        Raises: ConfigError: num_heads does not divide embedding_size.
        """
        super().__init__()
        config.check_width(embedding_size)
        self.watch_scale = config.watch_scale
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            _Block(config, embedding_size=embedding_size, max_watches=max_watches)
            for _ in range(config.num_blocks)
        )
        self.norm = nn.LayerNorm(embedding_size)

    def forward(self, watch_vectors: torch.Tensor) -> torch.Tensor:
        """[B, L, E], oldest first and padded on the right → [B, L, E]; L is at most max_watches.

        Entry i depends on the watches 0 … i alone, so that pads need no mask.
        """
        place = torch.arange(watch_vectors.shape[1], device=watch_vectors.device)
        distance = place[:, None] - place
        vectors = self.dropout(self.watch_scale * watch_vectors)
        for block in self.blocks:
            vectors = block(vectors, distance)
        normed: torch.Tensor = self.norm(vectors)
        return normed


class _Block(nn.Module):
    """Attention and feed-forward network, each added to what it read, normalised."""

    def __init__(self, config: AttentionConfig, *, embedding_size: int, max_watches: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        nearness = -torch.arange(max_watches).log1p()
        self.distance_bias = nn.Parameter(nearness.repeat(config.num_heads, 1))
        self.attention_norm = nn.LayerNorm(embedding_size)
        self.queries_keys_values = nn.Linear(embedding_size, 3 * embedding_size)
        self.attended = nn.Linear(embedding_size, embedding_size)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(embedding_size),
            nn.Linear(embedding_size, config.widening * embedding_size),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.widening * embedding_size, embedding_size),
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, vectors: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        """[B, L, E] and, of each pair of places, how far before the first the second lies."""
        vectors = vectors + self.dropout(self._attend(vectors, distance))
        fed: torch.Tensor = self.dropout(self.feed_forward(vectors))
        return vectors + fed

    def _attend(self, vectors: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        """softmax( q · k / √(E / heads) + bias(distance) ) v, over distances of 0 or more."""
        num_examples, num_watches, size = vectors.shape
        parts = self.queries_keys_values(self.attention_norm(vectors)).view(
            num_examples, num_watches, 3, self.num_heads, size // self.num_heads
        )
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        bias = self.distance_bias[:, distance.clamp(min=0)].masked_fill(distance < 0, -torch.inf)
        scores = queries @ keys.mT * (size // self.num_heads) ** -0.5
        shares = torch.softmax(scores + bias.to(scores.dtype), dim=-1)
        mixed = (shares @ values).transpose(1, 2).reshape(num_examples, num_watches, size)
        attended: torch.Tensor = self.attended(mixed)
        return attended


@dataclass(frozen=True)
class PackedWindows:
    """B windows as segments of the log, each attended to once for all windows that it holds.

    `blocks`: event indices [n, L], oldest first, −1 pads on the right; segments of about the same
    length stand together. `cells` [B]: where each window's newest event stands among all cells of
    the blocks, laid end to end; −1 where a window holds no known item.
    """

    blocks: tuple[Indices, ...]
    cells: Indices


def pack_windows(
    log: EventLog,
    user_rows: Indices,
    lo: Indices,
    hi: Indices,
    *,
    max_watches: int,
    min_watches: int,
    for_accelerator: bool = False,
) -> PackedWindows:
    """Cuts what the windows [lo, hi) hold into segments of at most `max_watches` events.

    A segment takes in a user's windows, by their ends, as long as they end within it. It begins
    where the first of them does, or `min_watches` before that one's end: so a window may begin
    later than it would alone, but keeps its newest `min_watches` events. With min_watches =
    max_watches each window is whole, and no two that begin apart share a segment. Events of unknown
    items count as absent.

    Args:
        user_rows: [B] whose each window is; does not fall. lo, hi: [B]; an `lo` lies `max_watches`
            before its `hi`, unless the user's events begin later.
        max_watches: events that a segment holds at most.
        min_watches: from 1, where segments hardly overlap, to max_watches.
        for_accelerator: whether blocks may be large, and hold segments of any length.
    """
    order = np.argsort(hi, kind="stable")
    user_rows, lo, hi = user_rows[order], lo[order], hi[order]
    segment, segment_lo, segment_hi = _segments(user_rows, lo, hi, max_watches, min_watches)
    lengths = segment_hi - segment_lo
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    events = np.arange(offsets[-1]) + (segment_lo - offsets[:-1])[owner]
    known = log.rows[events] > UNKNOWN_ROW
    num_known = np.concatenate([[0], np.cumsum(known)])
    first_known = num_known[offsets[:-1]]
    shapes, first_cell = _blocks(num_known[offsets[1:]] - first_known, for_accelerator)
    cells = (first_cell - first_known)[owner] + num_known[:-1]
    ends = np.cumsum([num_rows * width for num_rows, width in shapes], dtype=np.int64)
    flat = np.full(ends[-1] if shapes else 0, -1, np.int64)
    flat[cells[known]] = events[known]
    parts = np.split(flat, ends)[: len(shapes)]
    held = num_known[offsets[segment] + hi - segment_lo[segment]] - first_known[segment]
    newest = np.empty(len(hi), np.int64)
    newest[order] = np.where(held > 0, first_cell[segment] + held - 1, -1)
    blocks = tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    return PackedWindows(blocks, newest)


def attend_to_windows(
    attention: CausalAttention,
    embed: Callable[[torch.Tensor], torch.Tensor],
    log: EventLog,
    packed: PackedWindows,
) -> torch.Tensor:
    """What attention says at each window's newest event: [B, E]; of an empty window, zeros.

    `embed`: rows of known items, [R] int64, to their embeddings [R, E], such as a table.
    """
    device, size = attention.norm.weight.device, len(attention.norm.weight)
    events = np.concatenate([np.zeros(0, np.int64), *(block.ravel() for block in packed.blocks)])
    filled = np.flatnonzero(events >= 0)
    rows = torch.from_numpy(log.rows[events[filled]].astype(np.int64)).to(device)
    embedded = embed(rows)
    cells = embedded.new_zeros(len(events), size)
    cells = cells.index_copy(0, torch.from_numpy(filled).to(device), embedded)
    parts = torch.split(cells, [block.size for block in packed.blocks])
    outputs = [
        attention(part.view(*block.shape, size)).flatten(0, 1)
        for part, block in zip(parts, packed.blocks, strict=True)
    ]
    of_nothing = attention.norm.weight.new_zeros(1, size)
    return torch.cat([of_nothing, *outputs])[torch.from_numpy(packed.cells + 1).to(device)]


def _segments(
    user_rows: Indices, lo: Indices, hi: Indices, max_watches: int, min_watches: int
) -> tuple[Indices, Indices, Indices]:
    """The segment of each window, and where each segment begins and ends in the log.

    All users at once, one segment of each a round.
    """
    begins = np.zeros(len(hi), bool)
    changes = np.flatnonzero(np.diff(user_rows)) + 1
    first, end = np.append(0, changes), np.append(changes, len(hi))
    first, end = first[first < end], end[first < end]
    while len(first):
        begins[first] = True
        reach = np.maximum(lo[first], hi[first] - min_watches) + max_watches
        following = np.minimum(np.searchsorted(hi, reach, side="right"), end)
        first, end = following[following < end], end[following < end]
    segment = np.cumsum(begins) - 1
    closes = np.append(begins[1:], True)[: len(hi)]
    return segment, np.maximum(lo[begins], hi[begins] - min_watches), hi[closes]


def _blocks(lengths: Indices, for_accelerator: bool) -> tuple[list[tuple[int, int]], Indices]:
    """Shapes [n, L] of the blocks for segments of these lengths, and each segment's first cell.

    The segments of a block differ in length by less than a factor of 2: finer blocks have fewer
    pads, but cost more calls than they save. They fill no more cells than `BLOCK_CELLS`, unless
    one segment does. On an accelerator calls cost more still, and all lengths stand together.
    """
    order = np.argsort(lengths, kind="stable")
    rising = lengths[order]
    octave = np.ceil(np.log2(np.maximum(rising, 1))).astype(np.int64)
    if for_accelerator:
        octave[:] = octave.max(initial=0)
    place = np.arange(len(rising)) - np.searchsorted(octave, octave)
    num_cells = ACCELERATOR_CELLS if for_accelerator else BLOCK_CELLS
    part = place // np.maximum(1, num_cells >> octave)
    opens = np.ones(len(rising), bool)
    opens[1:] = (np.diff(octave) != 0) | (np.diff(part) != 0)
    starts = np.flatnonzero(opens)
    num_rows = np.diff(np.append(starts, len(rising)))
    width = rising[starts + num_rows - 1]
    width_of_segment = np.repeat(width, num_rows)
    first_cell = np.empty(len(rising), np.int64)
    first_cell[order] = np.cumsum(width_of_segment) - width_of_segment
    filled = width > 0
    return list(zip(num_rows[filled].tolist(), width[filled].tolist(), strict=True)), first_cell
