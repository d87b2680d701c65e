"""From raw arrays to features, inside the network: exported with it, the same anywhere.

Inputs are named as in `RankingInputs`. What comes out are raw values; `quantiles` normalises them.
"""

from collections.abc import Mapping

import torch

Inputs = Mapping[str, torch.Tensor]

MOST_SUMS = 1 << 13
"""Ids of a space beyond so many share sums."""
NEVER_S = 1e9
"""Seconds since something that never happened."""
UNSEEN_WATCHES, UNSEEN_IMPRESSIONS = 0.5, 5.0
USUAL_SHARE = 0.5
"""Counted beside what there was, so that a share of watched among few impressions says little."""

PAST_WITH = (
    "watches {}",
    "share watched {}",
    "seconds watched {}",
    "seconds since a watch {}",
)
CANDIDATE_FEATURES = (
    *(text.format("of the item") for text in PAST_WITH),
    *(text.format("on the channel") for text in PAST_WITH),
    *(text.format("with shared tags") for text in PAST_WITH),
    "impressions of the item",
    "seconds since the item was shown",
    "impressions of the item since it was watched",
    "impressions of the channel",
    "watches on the channel by impression",
    "impressions with shared tags",
    "watches with shared tags by impression",
    "watches with the first tag",
    "impressions with the first tag",
    "watches with the first tag by impression",
    "item age in days",
    "duration in seconds",
    "position",
    "everybody's impressions of the item",
    "everybody's watches of the item",
    "everybody's watches of the item by impression",
    "everybody's seconds by watch of the item",
    "everybody's share watched of the item",
    "everybody's impressions of the channel",
    "everybody's watches of the channel",
    "everybody's watches of the channel by impression",
    "everybody's seconds by watch of the channel",
    "everybody's share watched of the channel",
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

    Args:
        inputs: as named in `RankingInputs`.
        num_channels, num_tags: rows of these vocabularies.

    Source: Covington, Adams, Sargin 2016, section 4.1: the most important signals describe the
    user's previous interaction with the item itself and similar ones, earlier impressions that
    came to nothing, and which sources nominated the item with which score.
    """
    with_item = _past_with_item(inputs)
    *on_channel, _, _ = _past_by_id(
        inputs,
        watched=inputs["history_channel_rows"][:, :, None],
        shown=inputs["shown_channel_rows"][:, :, None],
        candidate=inputs["channel_rows"][:, None],
        num_ids=num_channels,
    )
    with_tags = _past_by_id(
        inputs,
        watched=inputs["history_tag_rows"],
        shown=inputs["shown_tag_rows"],
        candidate=inputs["tag_rows"],
        num_ids=num_tags,
    )
    first_tag = with_tags[6:]
    features = [
        *with_item[:4],
        *on_channel[:4],
        *with_tags[:4],
        *with_item[4:],
        *on_channel[4:],
        *with_tags[4:6],
        *first_tag,
        _by_impression(*first_tag),
        _if_known(inputs["item_age_days"], inputs["item_rows"] > 1),
        _if_known(inputs["duration_s"], inputs["duration_s"] > 0),
        inputs["position"],
        *_everybodys(inputs["item_counts"]),
        *_everybodys(inputs["channel_counts"]),
    ]
    return torch.cat([torch.stack(features, dim=1), inputs["source_scores"]], dim=1)


def _past_with_item(inputs: Inputs) -> list[torch.Tensor]:
    """Seven features [M] of the past with the candidate itself.

    `PAST_WITH`, impressions, seconds since the last one, impressions since the last watch. Each
    event is added up at the candidate's place; place 0 is that of all events of no candidate.
    """
    num_places = inputs["item_rows"].shape[0] + 1
    of_watches = inputs["history_place"].reshape(1, -1, 1)
    of_shown = inputs["shown_place"].reshape(1, -1, 1)
    shown_age_s = inputs["shown_age_s"].reshape(1, -1)
    share = watch_share(inputs).reshape(1, -1)
    watched_ago_s = _least(of_watches, inputs["history_age_s"].reshape(1, -1), num_places)
    is_since = (shown_age_s < watched_ago_s[0][of_shown[..., 0]]).to(shown_age_s.dtype)
    at_places = [
        _sums(of_watches, torch.ones_like(share), num_places),
        _sums(of_watches, share, num_places),
        _sums(of_watches, inputs["history_watch_time_s"].reshape(1, -1), num_places),
        _sums(of_shown, torch.ones_like(shown_age_s), num_places),
        _sums(of_shown, is_since, num_places),
        watched_ago_s,
        _least(of_shown, shown_age_s, num_places),
    ]
    found = torch.stack(at_places, dim=2)[0][inputs["item_place"]]
    known = (inputs["item_place"] > 0).float()
    watches, shares, seconds, impressions, since = (found[:, :5] * known[:, None]).unbind(dim=1)
    watched_ago_s, shown_ago_s = (found[:, 5:] + (1.0 - known[:, None]) * NEVER_S).unbind(dim=1)
    return [
        watches,
        shares / watches.clamp(min=1e-6),
        seconds,
        watched_ago_s.clamp(max=NEVER_S),
        impressions,
        shown_ago_s.clamp(max=NEVER_S),
        since,
    ]


def _past_by_id(
    inputs: Inputs,
    *,
    watched: torch.Tensor,
    shown: torch.Tensor,
    candidate: torch.Tensor,
    num_ids: int,
) -> list[torch.Tensor]:
    """Eight features [M] of the past with the ids of a candidate, an event counting once an id.

    `PAST_WITH`, impressions, watches by impression; watches and impressions of the first id alone.
    Each request's past is added up by id once, so that a candidate only looks its ids up.

    Args:
        watched, shown, candidate: ids [R, H, T], [R, Hs, T], [M, T]; below 2 they are none.
        num_ids: rows of their vocabulary.
    """
    num_sums = min(num_ids, MOST_SUMS)
    of_watches, of_shown, ids = (_places(rows, num_sums) for rows in (watched, shown, candidate))
    share = watch_share(inputs)
    events = (
        (of_watches, torch.ones_like(share)),
        (of_watches, share),
        (of_watches, inputs["history_watch_time_s"]),
        (of_shown, torch.ones_like(inputs["shown_age_s"])),
    )
    sums = [_sums(places, values, num_sums) for places, values in events]
    least = _least(of_watches, inputs["history_age_s"], num_sums)
    # Side by side, so that an id is looked up once. Sum 0 is that of no id.
    found = torch.stack([*sums, least], dim=2)[inputs["request_index"][:, None], ids]
    known = (ids > 0).float()
    of_ids = found[..., :4] * known[..., None]
    watches, shares, seconds, impressions = of_ids.sum(dim=1).unbind(dim=1)
    return [
        watches,
        shares / watches.clamp(min=1e-6),
        seconds,
        _since_last(known, found[..., 4]),
        impressions,
        _by_impression(watches, impressions),
        of_ids[:, 0, 0],
        of_ids[:, 0, 3],
    ]


def query_features(inputs: Inputs) -> torch.Tensor:
    """[R, Fq]: the user's past as a whole, raw values; computed once per request."""
    filled = (inputs["history_rows"] > 0).float()
    num_shown = (inputs["shown_rows"] > 0).float().sum(dim=1)
    features = [
        filled.sum(dim=1),
        _weighted_mean(filled, watch_share(inputs)),
        _weighted_mean(filled, inputs["history_watch_time_s"]),
        _since_last(filled, inputs["history_age_s"]),
        num_shown,
        _by_impression(filled.sum(dim=1), num_shown),
    ]
    return torch.stack(features, dim=1)


def watch_share(inputs: Inputs) -> torch.Tensor:
    """[R, H]: share of each past item that was watched, up to 1; 1 where no duration is known."""
    duration = inputs["history_duration_s"]
    share = inputs["history_watch_time_s"] / duration.clamp(min=1.0)
    return torch.where(duration > 0, share, torch.ones_like(share)).clamp(max=1.0)


def _everybodys(counts: torch.Tensor) -> list[torch.Tensor]:
    """Five features [M] of impressions, watches, seconds and shares [M, 4]."""
    shown, watches, seconds, shares = counts.unbind(dim=1)
    share = (shares + UNSEEN_WATCHES * USUAL_SHARE) / (watches + UNSEEN_WATCHES)
    by_watch = seconds / watches.clamp(min=1.0)
    return [shown, watches, _by_impression(watches, shown), by_watch, share]


def _if_known(values: torch.Tensor, are_known: torch.Tensor) -> torch.Tensor:
    """The values, and nan, which scales to 0, where they are not known."""
    return torch.where(are_known, values, torch.full_like(values, torch.nan))


def _by_impression(watches: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """The log of the share watched."""
    return torch.log((watches + UNSEEN_WATCHES) / (shown + UNSEEN_IMPRESSIONS))


def _places(rows: torch.Tensor, num_sums: int) -> torch.Tensor:
    """The sum that each id belongs to, from 1 on; 0 for pads and unknown ids."""
    ids = rows.to(torch.int64)
    return torch.where(ids > 1, (ids - 1) % (num_sums - 1) + 1, torch.zeros_like(ids))


def _sums(places: torch.Tensor, values: torch.Tensor, num_sums: int) -> torch.Tensor:
    """[R, num_sums] sums of values [R, H] over events with ids at places [R, H, T]."""
    of_ids = values[:, :, None].expand_as(places).flatten(1)
    nothing = values.new_zeros(values.shape[0], num_sums)
    return nothing.scatter_add(1, places.flatten(1), of_ids)


def _least(places: torch.Tensor, values: torch.Tensor, num_sums: int) -> torch.Tensor:
    """[R, num_sums] the least of values [R, H] by id, `NEVER_S` without one."""
    of_ids = values[:, :, None].expand_as(places).flatten(1)
    never = values.new_full((values.shape[0], num_sums), NEVER_S)
    return never.scatter_reduce(1, places.flatten(1), of_ids, "amin")


def _weighted_mean(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return (weights * values).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-6)


def _since_last(matches: torch.Tensor, age_s: torch.Tensor) -> torch.Tensor:
    """Seconds since the newest match, `NEVER_S` without one; matches are 0 or 1.

    Adding `NEVER_S` to all others is exact, and in ONNX runtimes quicker than to choose.
    """
    return (age_s + (1.0 - matches) * NEVER_S).amin(dim=1).clamp(max=NEVER_S)
