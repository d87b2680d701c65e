"""Ranking's features in eager PyTorch, as many would write them: no loop, one tensor after another.

What they are is told in `upnext.features`; a test holds the two against each other.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.features.counted import NEVER_S, UNSEEN_IMPRESSIONS, UNSEEN_WATCHES, USUAL_SHARE
from upnext.features.features import CANDIDATE_LEVELS, QUERY_LEVELS, RankingFeatures
from upnext.features.liking import GRID, SMALL_LOG_ODDS, Manners
from upnext.features.scale import LARGEST, Scale
from upnext.schema import UNKNOWN_ROW

Inputs = Mapping[str, torch.Tensor]
FEW = 1e-6


class EagerFeatures:
    """Of one request at a time: levels of features by the name that networks give them."""

    def __init__(
        self, features: RankingFeatures, *, channels: NDArray[np.int32], tags: NDArray[np.int32]
    ) -> None:
        self.queries, self.candidates = (
            EagerScale(one, powers=features.powers, logs=features.logs)
            for one in (features.queries, features.candidates)
        )
        self.num_channels, self.num_tags = int(channels.max()) + 1, int(tags.max()) + 1
        self.liking = None if features.manners is None else EagerLiking(features.manners)

    def levels(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        """[1, ·] of the request and [M, ·] of its candidates."""
        of_candidates = self._of_candidates(inputs)
        if self.liking is not None:
            of_candidates = torch.cat([of_candidates, self.liking(inputs)], dim=1)
        return {
            QUERY_LEVELS: self.queries(_of_query(inputs)),
            CANDIDATE_LEVELS: self.candidates(of_candidates),
        }

    def _of_candidates(self, inputs: Inputs) -> torch.Tensor:
        num_items = len(inputs["item_rows"])
        place = inputs["item_place"].long()
        items = _counted(inputs, "place", num_items + 1)[place]
        channels = _counted(inputs, "channel_rows", self.num_channels)[inputs["channel_rows"]]
        by_tag = _counted(inputs, "tag_rows", self.num_tags)[inputs["tag_rows"]]
        tags = torch.cat([by_tag[:, :, :4].sum(dim=1), by_tag[:, :, 4:].amin(dim=1)], dim=1)
        each = torch.stack([items, channels, tags], dim=2)
        watches, shares, seconds, shown, ago_s = each.unbind(dim=1)
        since, shown_ago_s = _since_shown(inputs, num_items + 1)
        first, unseen = by_tag[:, 0], float(UNSEEN_WATCHES)
        of_all = torch.stack([inputs["item_counts"], inputs["channel_counts"]], dim=2)
        all_shown, all_watches, all_seconds, all_shares = of_all.unbind(dim=1)
        return torch.cat(
            [
                *(watches, shares / watches.clamp(min=FEW), seconds, shown),
                *(since[place][:, None], ago_s, shown_ago_s[place][:, None]),
                *(first[:, :1], first[:, 3:4]),
                _by_impression(watches[:, 1:], shown[:, 1:]),
                _by_impression(first[:, :1], first[:, 3:4]),
                _by_impression(all_watches, all_shown),
                *(all_shown, all_watches, all_seconds / all_watches.clamp(min=1)),
                (all_shares + unseen * float(USUAL_SHARE)) / (all_watches + unseen),
                _if(inputs["item_rows"] > UNKNOWN_ROW, inputs["item_age_days"])[:, None],
                _if(inputs["duration_s"] > 0, inputs["duration_s"])[:, None],
                *(inputs["position"][:, None], inputs["source_scores"]),
            ],
            dim=1,
        )


def _counted(inputs: Inputs, ids: str, num_ids: int) -> torch.Tensor:
    """[ids, 5] watches, shares, seconds, impressions, seconds since a watch; nothing of 0 and 1."""
    first = 1 if ids == "place" else UNKNOWN_ROW + 1
    sums = torch.zeros(num_ids, 5)
    sums[:, 4] = float(NEVER_S)
    watched, slots = _flat(inputs[f"history_{ids}"])
    share = _watch_share(inputs).flatten()
    done = torch.stack([torch.ones_like(share), share, inputs["history_watch_time_s"][0]], dim=1)
    sums[:, :3].index_add_(0, watched, done[slots])
    age_s = inputs["history_age_s"][0][slots]
    sums[:, 4].scatter_reduce_(0, watched, age_s, "amin")
    shown, _ = _flat(inputs[f"shown_{ids}"])
    sums[:, 3].index_add_(0, shown, torch.ones(len(shown)))
    sums[:first, :4], sums[:first, 4] = 0, float(NEVER_S)
    return sums


def _flat(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids [1, H(, T)] of one request one after another, and which slot each is of."""
    by_slot = ids[0].reshape(ids.shape[1], -1)
    slots = torch.arange(len(by_slot))[:, None].expand_as(by_slot)
    return by_slot.flatten().long(), slots.flatten()


def _since_shown(inputs: Inputs, num_places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """By place: impressions since the last watch, and seconds since the last of all."""
    never = torch.full((num_places,), float(NEVER_S))
    watched, shown = inputs["history_place"][0].long(), inputs["shown_place"][0].long()
    watched_ago_s = never.scatter_reduce(0, watched, inputs["history_age_s"][0], "amin")
    age_s = inputs["shown_age_s"][0]
    is_since = (age_s < watched_ago_s[shown]).float()
    since = torch.zeros(num_places).index_add_(0, shown, is_since)
    shown_ago_s = never.scatter_reduce(0, shown, age_s, "amin")
    since[0], shown_ago_s[0] = 0, float(NEVER_S)
    return since, shown_ago_s


def _of_query(inputs: Inputs) -> torch.Tensor:
    filled = (inputs["history_rows"] > 0).float()
    num_watches = filled.sum(dim=1)
    num_shown = (inputs["shown_rows"] > 0).float().sum(dim=1)
    per = num_watches.clamp(min=FEW)
    never = torch.full_like(filled, float(NEVER_S))
    return torch.stack(
        [
            num_watches,
            (_watch_share(inputs) * filled).sum(dim=1) / per,
            (inputs["history_watch_time_s"] * filled).sum(dim=1) / per,
            torch.cat([torch.where(filled > 0, inputs["history_age_s"], never), never], 1).amin(1),
            num_shown,
            _by_impression(num_watches, num_shown),
        ],
        dim=1,
    )


def _watch_share(inputs: Inputs) -> torch.Tensor:
    duration_s = inputs["history_duration_s"]
    share = inputs["history_watch_time_s"] / duration_s.clamp(min=1.0)
    return torch.where(duration_s > 0, share, torch.ones_like(share)).clamp(max=1.0)


def _if(is_known: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return torch.where(is_known, values, torch.full_like(values, torch.nan))


def _by_impression(watches: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    return torch.log((watches + float(UNSEEN_WATCHES)) / (shown + float(UNSEEN_IMPRESSIONS)))


class EagerScale:
    """[n, F] → [n, ·], as `Scale.levels`."""

    def __init__(self, scale: Scale, *, powers: bool, logs: bool) -> None:
        self.powers, self.logs = powers, logs
        self.parts = {name: torch.from_numpy(np.array(part)) for name, part in vars(scale).items()}

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """By feature, all values at once."""
        by_feature, parts = values.T.contiguous(), self.parts
        found = torch.searchsorted(parts["bounds"], by_feature, right=True) - 1
        bins = found.clamp(min=0, max=parts["bounds"].shape[1] - 1)
        bound, width, start, rise = (
            parts[name].gather(1, bins) for name in ("bounds", "widths", "starts", "rises")
        )
        levels = start + rise * ((by_feature - bound) / width).clamp(0, 1)
        told = [levels]
        if self.powers:
            told += [levels.square(), levels.clamp(min=0).sqrt()]
        if self.logs:
            logs = by_feature.sign() * by_feature.abs().log1p()
            scaled = (logs - parts["mean"][:, None]) / parts["deviation"][:, None]
            told.append(scaled.clamp(-float(LARGEST), float(LARGEST)))
        return torch.where(by_feature.isnan(), 0, torch.stack(told)).flatten(0, 1).T


class EagerLiking:
    """[M, 2], as `features.liking.likings` has it."""

    def __init__(self, manners: Manners) -> None:
        self.log_odds, self.vectors, self.moments, self.precision = (
            torch.from_numpy(np.array(part))
            for part in (manners.log_odds, manners.vectors, manners.moments, manners.precision)
        )
        self.vectors[: UNKNOWN_ROW + 1] = 0
        self.num_tags, self.tag_precision = (
            int(manners.num_tags[0]),
            float(manners.tag_precision[0]),
        )

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Two steps from 0."""
        shown, watched = (
            self._known(inputs[f"{kind}_channel_rows"][0], len(self.vectors))
            for kind in ("shown", "history")
        )
        age_s, watched_age_s = inputs["shown_age_s"][0], inputs["history_age_s"][0]
        is_full = inputs["history_rows"][0, 0] > 0
        is_judged = ~is_full | (age_s <= watched_age_s[0])
        is_told = (watched > UNKNOWN_ROW) & (watched_age_s <= (age_s * is_judged).max())
        counts = ((shown > UNKNOWN_ROW) & is_judged).double()
        tags = self._known(inputs["shown_tag_rows"][0], self.num_tags)
        watched_tags = self._known(inputs["history_tag_rows"][0], self.num_tags)
        shares = _shares(tags) * counts[:, None]
        done = _shares(watched_tags) * is_told.double()[:, None]
        of_done = self._by_tag(watched_tags, done)
        vectors, log_odds = self.vectors[shown], self.log_odds[shown]
        towards = self.vectors[watched[is_told]].sum(dim=0)
        liking, own, of_all = torch.zeros(self.num_tags).double(), 0 * log_odds, log_odds
        for curvature in (_most_curved, _curved):
            missing = self._by_tag(tags, shares * of_all.sigmoid()[:, None])
            certainty = self._by_tag(tags, shares * curvature(of_all)[:, None])
            surprise = of_done - missing - liking * self.tag_precision
            liking = liking + surprise / (certainty + self.tag_precision)
            by_tags = (liking[tags] * shares).sum(dim=1)
            of_all = log_odds + own + by_tags
            weights = counts * curvature(of_all)
            scores = weights * own - counts * of_all.sigmoid()
            information = torch.einsum("e,eij->ij", weights, self.moments[shown])
            information = information + torch.diag(self.precision)
            z = torch.linalg.solve(information, towards + scores @ vectors)
            own = vectors @ z
            of_all = log_odds + own + by_tags
        channels = self._known(inputs["channel_rows"], len(self.vectors))
        of_channel = self.vectors[channels][:, :-1] @ z[:-1]
        candidate_tags = self._known(inputs["tag_rows"], self.num_tags)
        of_tags = (liking[candidate_tags] * _shares(candidate_tags)).sum(dim=1)
        both = torch.stack([of_channel, of_tags], dim=1)
        return (torch.round(both / GRID) * GRID).float()

    def _known(self, rows: torch.Tensor, num_rows: int) -> torch.Tensor:
        return torch.where(rows < num_rows, rows, 0).long()

    def _by_tag(self, tags: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros(self.num_tags).double()
        return sums.index_add_(0, tags.flatten(), values.flatten())


def _shares(tags: torch.Tensor) -> torch.Tensor:
    are_known = (tags > UNKNOWN_ROW).double()
    return are_known / are_known.sum(dim=-1, keepdim=True).clamp(min=1)


def _curved(log_odds: torch.Tensor) -> torch.Tensor:
    return log_odds.sigmoid() * (-log_odds).sigmoid()


def _most_curved(log_odds: torch.Tensor) -> torch.Tensor:
    is_small = log_odds.abs() < SMALL_LOG_ODDS
    apart = torch.where(is_small, torch.ones_like(log_odds), log_odds)
    return torch.where(is_small, 0.25, (apart.sigmoid() - 0.5) / apart)
