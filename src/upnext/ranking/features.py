"""From raw arrays to features, inside the network: exported with it, the same anywhere.

Inputs are named as in `RankingInputs`. What comes out are raw values; `quantiles` normalises them.
"""

from collections.abc import Mapping

import torch
from torch import nn

Inputs = Mapping[str, torch.Tensor]

MOST_SUMS = 1 << 13
"""Ids of a space beyond so many share sums."""
NEVER_S = 1e9
"""Seconds since something that never happened."""
UNSEEN_WATCHES, UNSEEN_IMPRESSIONS = 0.5, 5.0
USUAL_SHARE = 0.5
"""Counted beside what there was, so that a share of watched among few impressions says little."""
EMPTY, ASIDE = 0, 1
"""The sums that stand in for ids below 2: that of candidates, to which nothing is ever added, and
that of events, which nobody reads."""

CANDIDATE_FEATURES = (
    "watches of the item",
    "watches on the channel",
    "watches with shared tags",
    "share watched of the item",
    "share watched on the channel",
    "share watched with shared tags",
    "seconds watched of the item",
    "seconds watched on the channel",
    "seconds watched with shared tags",
    "impressions of the item",
    "impressions of the channel",
    "impressions with shared tags",
    "impressions of the item since it was watched",
    "seconds since a watch of the item",
    "seconds since a watch on the channel",
    "seconds since a watch with shared tags",
    "seconds since the item was shown",
    "watches with the first tag",
    "impressions with the first tag",
    "watches on the channel by impression",
    "watches with shared tags by impression",
    "watches with the first tag by impression",
    "everybody's watches of the item by impression",
    "everybody's watches of the channel by impression",
    "everybody's impressions of the item",
    "everybody's impressions of the channel",
    "everybody's watches of the item",
    "everybody's watches of the channel",
    "everybody's seconds by watch of the item",
    "everybody's seconds by watch of the channel",
    "everybody's share watched of the item",
    "everybody's share watched of the channel",
    "item age in days",
    "duration in seconds",
    "position",
)
"""Beside these, a column for each source of candidates."""
QUERY_FEATURES = (
    "watches in the history",
    "share watched in the history",
    "seconds watched in the history",
    "seconds since the last watch",
    "impressions in the history",
    "watches in the history by impression",
)


def candidate_features(inputs: Inputs, *, num_channels: int, num_tags: int) -> torch.Tensor:
    """[M, F + S]: the candidate, what the user did before with it and its likes, and everybody.

    Few wide operations rather than many of one column: where a page is ranked, starting an
    operation costs more than its numbers.

    Args:
        inputs: as named in `RankingInputs`.
        num_channels, num_tags: rows of these vocabularies.

    Source: Covington, Adams, Sargin 2016, section 4.1: the most important signals describe the
    user's previous interaction with the item itself and similar ones, earlier impressions that
    came to nothing, and which sources nominated the item with which score.
    """
    past, ago_s, first_tag = _past(inputs, num_channels=num_channels, num_tags=num_tags)
    watches, impressions = past[:, :3], past[:, 9:12]
    counts = torch.cat([inputs["item_counts"], inputs["channel_counts"]], dim=1)
    shown_by_all, watches_by_all = counts[:, 0::4], counts[:, 1::4]
    by_impression = _by_impression(
        torch.cat([watches[:, 1:], first_tag[:, :1], watches_by_all], dim=1),
        torch.cat([impressions[:, 1:], first_tag[:, 1:], shown_by_all], dim=1),
    )
    features = [
        watches,
        past[:, 3:6] / watches.clamp(min=1e-6),
        past[:, 6:13],
        ago_s,
        first_tag,
        by_impression,
        shown_by_all,
        watches_by_all,
        counts[:, 2::4] / watches_by_all.clamp(min=1.0),
        (counts[:, 3::4] + UNSEEN_WATCHES * USUAL_SHARE) / (watches_by_all + UNSEEN_WATCHES),
        _if_known(inputs["item_age_days"], inputs["item_rows"] > 1)[:, None],
        _if_known(inputs["duration_s"], inputs["duration_s"] > 0)[:, None],
        inputs["position"][:, None],
        inputs["source_scores"],
    ]
    return torch.cat(features, dim=1)


def _past(
    inputs: Inputs, *, num_channels: int, num_tags: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The user's past with the item, on the channel and with the tags of each candidate.

    An event counts once for each id that it shares with the candidate: it is added up at its ids'
    sums once, and a candidate only looks its own ids' sums up.

    Returns:
        [M, 15] watches, shares, seconds, impressions, and impressions since the item was watched;
        of each the item's, the channel's and the tags'.
        [M, 4] seconds since the last watch of these three, and since the item was last shown.
        [M, 2] watches and impressions of the first tag alone.
    """
    sums = _Sums(inputs, num_channels, num_tags)
    of_watches, of_shown, ids = sums.of_events("history"), sums.of_events("shown"), sums.looked_up()
    share = watch_share(inputs)
    done = torch.stack([torch.ones_like(share), share, inputs["history_watch_time_s"]], dim=2)
    watched_ago_s = sums.least(of_watches, inputs["history_age_s"])
    of_items = of_shown[:, :, :1]
    shown_age_s = inputs["shown_age_s"]
    since = (shown_age_s < _found(watched_ago_s, of_items[:, :, 0])).to(shown_age_s.dtype)
    shown = torch.stack([torch.ones_like(since), since], dim=2)
    shown_ago_s = sums.least(of_items, shown_age_s)
    watches = nn.functional.embedding(ids, sums.added(of_watches, done))
    impressions = nn.functional.embedding(ids, sums.added(of_shown, shown))
    of_each = [
        torch.cat([found[:2], found[2:].sum(dim=0, keepdim=True)]).permute(1, 2, 0).flatten(1)
        for found in (watches, impressions)
    ]
    ago_s = _found(watched_ago_s, ids)
    all_ago_s = [ago_s[:2], ago_s[2:].amin(dim=0, keepdim=True), _found(shown_ago_s, ids[:1])]
    first_tag = torch.cat([watches[2, :, :1], impressions[2, :, :1]], dim=1)
    return torch.cat(of_each, dim=1), torch.cat(all_ago_s).T, first_tag


def _found(sums: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """sums[places], which ONNX runtimes look up quicker along one line."""
    return sums.index_select(0, places.flatten()).view_as(places)


class _Sums:
    """Where events are added up: one line of sums for all requests, their ids and candidates.

    Each request has its channels' sums and its tags', one after the other; behind those of all
    requests stand the candidates', by place.
    """

    def __init__(self, inputs: Inputs, num_channels: int, num_tags: int) -> None:
        self._inputs = inputs
        self._folds = max(num_channels, num_tags) > MOST_SUMS + 1
        num_tag_slots = inputs["tag_rows"].shape[1]
        widths = [2 + min(num_ids - 2, MOST_SUMS - 1) for num_ids in (num_channels, num_tags)]
        self._width = sum(widths)
        device = inputs["item_rows"].device
        self._begins = torch.tensor([0] + num_tag_slots * [widths[0]], device=device)
        self._places = inputs["history_rows"].shape[0] * self._width
        self.num_sums = self._places + inputs["item_rows"].shape[0] + 2

    def of_events(self, kind: str) -> torch.Tensor:
        """[R, H, 2 + T] the sums that an event is added to: of its item, its channel, its tags."""
        rows = self._inputs[f"{kind}_channel_rows"][:, :, None]
        ids = self._folded(torch.cat([rows, self._inputs[f"{kind}_tag_rows"]], dim=2))
        begins = self._begins_of(torch.arange(ids.shape[0], device=ids.device)[:, None])
        places = self._inputs[f"{kind}_place"][:, :, None]
        return torch.cat([places + (self._places + ASIDE), ids.clamp(min=ASIDE) + begins], dim=2)

    def looked_up(self) -> torch.Tensor:
        """[2 + T, M] the sums that a candidate looks up."""
        rows = self._inputs["channel_rows"][:, None]
        ids = self._folded(torch.cat([rows, self._inputs["tag_rows"]], dim=1))
        places = self._inputs["item_place"][None]
        of_items = torch.where(places > 0, places + ASIDE, places) + self._places
        begins = self._begins_of(self._inputs["request_index"])
        return torch.cat([of_items, (ids * (ids > ASIDE) + begins).T])

    def added(self, sums: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """[sums, V] of values [R, H, V] of events with `sums` [R, H, T]."""
        of_ids = values[:, :, None].expand(*sums.shape, values.shape[2]).flatten(0, 2)
        nothing = values.new_zeros(self.num_sums, values.shape[2])
        return nothing.index_put((sums.flatten(),), of_ids, accumulate=True)

    def least(self, sums: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """[sums] the least of values [R, H] of events with `sums` [R, H, T]; `NEVER_S` of none."""
        of_ids = values[:, :, None].expand_as(sums).flatten()
        never = values.new_full((self.num_sums,), NEVER_S)
        return never.scatter_reduce(0, sums.flatten(), of_ids, "amin")

    def _begins_of(self, requests: torch.Tensor) -> torch.Tensor:
        return requests[..., None] * self._width + self._begins

    def _folded(self, ids: torch.Tensor) -> torch.Tensor:
        """The ids, those beyond the first `MOST_SUMS` in the places of these."""
        if not self._folds:
            return ids
        return torch.where(ids > ASIDE, (ids - 2) % (MOST_SUMS - 1) + 2, ids)


def query_features(inputs: Inputs) -> torch.Tensor:
    """[R, Fq]: the user's past as a whole, raw values; computed once per request."""
    filled = (inputs["history_rows"] > 0).float()
    num_shown = (inputs["shown_rows"] > 0).float().sum(dim=1, keepdim=True)
    done = torch.stack([filled, watch_share(inputs), inputs["history_watch_time_s"]], dim=1)
    sums = (done * filled[:, None]).sum(dim=2)
    num_watches = sums[:, :1]
    # Adding `NEVER_S` to all others is exact, and in ONNX runtimes quicker than to choose.
    ago_s = (inputs["history_age_s"] + (1.0 - filled) * NEVER_S).amin(dim=1, keepdim=True)
    features = [
        num_watches,
        sums[:, 1:] / num_watches.clamp(min=1e-6),
        ago_s.clamp(max=NEVER_S),
        num_shown,
        _by_impression(num_watches, num_shown),
    ]
    return torch.cat(features, dim=1)


def watch_share(inputs: Inputs) -> torch.Tensor:
    """[R, H]: share of each past item that was watched, up to 1; 1 where no duration is known."""
    duration = inputs["history_duration_s"]
    share = inputs["history_watch_time_s"] / duration.clamp(min=1.0)
    return torch.where(duration > 0, share, torch.ones_like(share)).clamp(max=1.0)


def _if_known(values: torch.Tensor, are_known: torch.Tensor) -> torch.Tensor:
    """The values, and nan, which scales to 0, where they are not known."""
    return torch.where(are_known, values, torch.full_like(values, torch.nan))


def _by_impression(watches: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """The log of the share watched."""
    return torch.log((watches + UNSEEN_WATCHES) / (shown + UNSEEN_IMPRESSIONS))
