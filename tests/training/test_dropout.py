import pytest
import torch

from upnext.training.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_entries_are_left_out_at_their_share_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(3)
    values = torch.ones(301, 333, requires_grad=True)
    thinned = Dropout(share)(values)
    (slope,) = torch.autograd.grad(thinned.sum(), values)
    assert thinned.detach().equal(slope)
    left_out = (thinned == 0).float()
    error = (share * (1 - share) / values.numel()) ** 0.5
    assert left_out.mean().item() == pytest.approx(share, abs=5 * error)
    for axis in (0, 1):  # no line and no column is left out more often than another
        least, most = left_out.mean(dim=axis).aminmax()
        assert most - least < 12 * (share * (1 - share) / 301) ** 0.5
    (kept,) = thinned[thinned > 0].unique().tolist()
    assert kept == pytest.approx(1 / (1 - share), rel=1e-4)


def test_nothing_is_left_out_when_asked_and_draws_follow_the_seed() -> None:
    values = torch.randn(7, 5)
    thinning = Dropout(0.5)
    thinned = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        thinned.append(thinning(values))
    assert thinned[0].equal(thinned[1])
    assert not thinned[0].equal(thinned[2])
    assert Dropout(0.0)(values) is values
    assert thinning.eval()(values) is values


def test_a_share_that_is_next_to_all_still_leaves_a_mean() -> None:
    thinned = Dropout(1 - 1e-9)(torch.ones(1_000, 1_000))
    assert thinned.isfinite().all()
    assert thinned.max() in (0.0, 2.0**16)
