import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.export import Dim

from upnext.errors import ConfigError
from upnext.examples.history import EventLog, Indices
from upnext.retrieval.attention import (
    BLOCK_CELLS,
    AttentionConfig,
    CausalAttention,
    attend_to_windows,
    pack_windows,
)

NUM_ROWS = 9
SIZE = 4
MAX_WATCHES = 6


def random_attention(*, num_blocks: int = 2) -> CausalAttention:
    """Two heads; no weight left at a value such as 0 that hides what it does."""
    torch.manual_seed(3)
    config = AttentionConfig(num_blocks=num_blocks, num_heads=2, dropout=0.5, watch_scale=2.0)
    attention = CausalAttention(config, embedding_size=SIZE, max_watches=MAX_WATCHES)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return attention.double().eval()


def random_table() -> nn.Embedding:
    torch.manual_seed(4)
    return nn.Embedding(NUM_ROWS, SIZE, dtype=torch.float64)


def random_log(seed: int, *, num_users: int = 3, num_events: int = 40) -> EventLog:
    """Events with rows from 1, unknown, to the last of the table; times often equal."""
    rng = np.random.default_rng(seed)
    return EventLog.from_events(
        user_rows=rng.integers(0, num_users, num_events),
        rows=rng.integers(1, NUM_ROWS, num_events).astype(np.int32),
        at_ms=rng.integers(0, 15, num_events),
        num_users=num_users,
    )


def every_moment(log: EventLog) -> tuple[Indices, Indices, Indices]:
    """Of all users, all times from before the first event to after the last: user_rows, lo, hi."""
    at_ms = np.tile(np.arange(17), log.num_users)
    user_rows = np.repeat(np.arange(log.num_users), 17)
    return user_rows, *log.window_before(user_rows, at_ms, MAX_WATCHES)


def attended(
    log: EventLog,
    windows: tuple[Indices, Indices, Indices],
    min_watches: int,
    for_accelerator: bool = False,
) -> Indices:
    packed = pack_windows(
        log,
        *windows,
        max_watches=MAX_WATCHES,
        min_watches=min_watches,
        for_accelerator=for_accelerator,
    )
    with torch.no_grad():
        vectors = attend_to_windows(random_attention(), random_table(), log, packed)
    return vectors.numpy()


def test_a_watch_sees_none_that_come_after() -> None:
    attention = random_attention()
    vectors = torch.randn(2, MAX_WATCHES, SIZE, dtype=torch.float64, requires_grad=True)
    for place in range(MAX_WATCHES):
        (gradient,) = torch.autograd.grad(attention(vectors)[:, place].square().sum(), vectors)
        reached = gradient.abs().amax(dim=(0, 2)) > 0
        assert reached.tolist() == [other <= place for other in range(MAX_WATCHES)]


def test_only_the_distance_between_two_watches_counts() -> None:
    """Where the past is out of reach, it does not matter how many watches lie there."""
    attention = random_attention(num_blocks=1)
    near = torch.randn(1, 3, SIZE, dtype=torch.float64)
    far = torch.randn(1, 2, SIZE, dtype=torch.float64)
    for name, parameter in attention.named_parameters():
        if "distance" in name:
            parameter.data[:, 3:] = -1e9
    after_others = attention(torch.cat([far, near], dim=1))[:, -1]
    torch.testing.assert_close(after_others, attention(near)[:, -1])


def test_the_order_of_the_past_counts() -> None:
    attention = random_attention(num_blocks=1)
    vectors = torch.randn(1, 3, SIZE, dtype=torch.float64)
    swapped = attention(vectors[:, [1, 0, 2]])[:, -1]
    assert not torch.allclose(swapped, attention(vectors)[:, -1], rtol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), num_events=st.integers(0, 60), for_accelerator=st.booleans())
def test_packed_windows_give_what_each_gives_alone(
    seed: int, num_events: int, for_accelerator: bool
) -> None:
    log = random_log(seed, num_events=num_events)
    windows = every_moment(log)
    packed = attended(log, windows, MAX_WATCHES, for_accelerator)
    attention, table = random_attention(), random_table()
    for lo, hi, vector in zip(*windows[1:], packed, strict=True):
        rows = log.rows[lo:hi]
        known = torch.from_numpy(rows[rows > 1].astype(np.int64))
        alone = attention(table(known[None]))[0, -1] if len(known) else torch.zeros(SIZE)
        np.testing.assert_allclose(vector, alone.detach().numpy(), rtol=1e-9, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_events=st.integers(0, 60),
    min_watches=st.integers(1, MAX_WATCHES),
    t=st.integers(0, 16),
)
def test_what_happens_at_t_or_later_changes_nothing_before(
    seed: int, num_events: int, min_watches: int, t: int
) -> None:
    log = random_log(seed, num_events=num_events)
    user_rows, lo, hi = every_moment(log)
    rng = np.random.default_rng(seed)
    later = log.at_ms >= t
    changed = np.where(later, rng.integers(2, NUM_ROWS, num_events), log.rows).astype(np.int32)
    other = replace(log, rows=changed)
    until_t = np.tile(np.arange(17), log.num_users) <= t
    before, after = (attended(each, (user_rows, lo, hi), min_watches) for each in (log, other))
    np.testing.assert_allclose(before[until_t], after[until_t], rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_events=st.integers(0, 60),
    min_watches=st.integers(1, MAX_WATCHES),
    for_accelerator=st.booleans(),
)
def test_a_window_keeps_its_newest_events_in_order(
    seed: int, num_events: int, min_watches: int, for_accelerator: bool
) -> None:
    log = random_log(seed, num_events=num_events)
    user_rows, lo, hi = every_moment(log)
    packed = pack_windows(
        log,
        user_rows,
        lo,
        hi,
        max_watches=MAX_WATCHES,
        min_watches=min_watches,
        for_accelerator=for_accelerator,
    )
    cells = np.concatenate([[-1], *(block.ravel() for block in packed.blocks)])
    columns = np.concatenate(
        [[0], *(np.indices(block.shape)[1].ravel() for block in packed.blocks)]
    )
    for place, window_lo, window_hi in zip(packed.cells + 1, lo, hi, strict=True):
        seen = cells[place - columns[place] : place + 1] if place else cells[:0]
        known = np.flatnonzero(log.rows > 1)
        whole = known[(known >= window_lo) & (known < window_hi)]
        newest = whole[whole >= window_hi - min_watches]
        assert len(newest) <= len(seen) <= len(whole)
        assert seen.tolist() == whole[len(whole) - len(seen) :].tolist()


def test_windows_may_come_in_any_order_within_a_user() -> None:
    """As where a training step hides the newest watches of some examples."""
    log = random_log(2)
    user_rows, lo, hi = every_moment(log)
    shuffled = np.lexsort((np.random.default_rng(2).random(len(hi)), user_rows))
    of_shuffled = attended(log, (user_rows, lo[shuffled], hi[shuffled]), min_watches=3)
    in_order = attended(log, (user_rows, lo, hi), min_watches=3)
    np.testing.assert_allclose(of_shuffled, in_order[shuffled], rtol=1e-9, atol=1e-12)


def test_no_windows_are_no_vectors() -> None:
    nothing = np.zeros(0, np.int64)
    assert attended(random_log(1), (nothing, nothing, nothing), min_watches=1).shape == (0, SIZE)


def test_neighbouring_windows_share_one_pass() -> None:
    """1,000 moments of a user with 1,000 watches: some 1,000 / 100 segments, hardly padded."""
    log = EventLog.from_events(
        user_rows=np.zeros(1_000, np.int64),
        rows=np.full(1_000, 2, np.int32),
        at_ms=np.arange(1_000),
        num_users=1,
    )
    user_rows, at_ms = np.zeros(1_000, np.int64), np.arange(1_000)
    lo, hi = log.window_before(user_rows, at_ms, 100)
    packed = pack_windows(log, user_rows, lo, hi, max_watches=100, min_watches=1)
    assert sum(block.size for block in packed.blocks) < 1_100


def test_blocks_stay_small_and_hardly_padded() -> None:
    rng = np.random.default_rng(5)
    log = random_log(5, num_users=300, num_events=30_000)
    users = np.arange(300)
    lo, hi = log.window_before(users, rng.integers(0, 20, 300), 200)
    packed = pack_windows(log, users, lo, hi, max_watches=200, min_watches=200)
    assert max(block.size for block in packed.blocks) <= BLOCK_CELLS
    num_cells = sum(block.size for block in packed.blocks)
    num_filled = sum((block >= 0).sum() for block in packed.blocks)
    assert num_filled > num_cells / 2


def test_an_accelerator_is_given_all_lengths_at_once() -> None:
    log = random_log(5, num_users=300, num_events=30_000)
    lo, hi = log.window_before(np.arange(300), np.arange(300) % 20, 200)
    packed = pack_windows(
        log, np.arange(300), lo, hi, max_watches=200, min_watches=200, for_accelerator=True
    )
    assert len(packed.blocks) == 1


def test_learns_to_name_the_watch_before_the_last() -> None:
    """What no average of the past can tell: the one-but-last item."""
    torch.manual_seed(8)
    config = AttentionConfig(num_blocks=1, dropout=0.0, watch_scale=1.0)
    attention = CausalAttention(config, embedding_size=16, max_watches=5)
    items = torch.eye(16)
    optimizer = torch.optim.Adam(attention.parameters(), lr=0.02)
    for _ in range(100):
        rows = torch.randint(0, 16, (64, 5))
        logits = attention(items[rows])[:, -1] @ items.T
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, rows[:, -2]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    rows = torch.randint(0, 16, (200, 5))
    named = (attention(items[rows])[:, -1] @ items.T).argmax(dim=1)
    assert float((named == rows[:, -2]).float().mean()) > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (3, 4)])
def test_the_exported_network_gives_the_same_numbers(
    exported: Path, shape: tuple[int, int]
) -> None:
    attention = random_attention().float()
    vectors = torch.randn(*shape, SIZE)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"watch_vectors": vectors.numpy()})
    np.testing.assert_allclose(output, attention(vectors).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "attention.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            random_attention().float(),
            (torch.randn(2, 5, SIZE),),
            path,
            input_names=["watch_vectors"],
            dynamic_shapes=({0: Dim("examples"), 1: Dim("watches", max=MAX_WATCHES)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_blocks", 0),
        ("num_heads", 0),
        ("widening", 0),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("watch_scale", 0.0),
    ],
)
def test_config_names_what_it_refuses(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"\[retrieval\.network\.attention\] {name}"):
        AttentionConfig(**{name: value})  # type: ignore[arg-type]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="a divisor of embedding_size, 6"):
        CausalAttention(AttentionConfig(num_heads=4), embedding_size=6, max_watches=3)
