"""Whether the arrays of a release fit together, asked once, when it is opened.

What is compiled reads an array at the row that another one names, and asks at most once whether it
is there. Each file may be what was published, and yet not go with the others: of another training,
or of another version of upnext. Lengths alone are compared, of which headers tell, so that nothing
is read; what is in the files is for their hashes to vouch for.
"""

from collections.abc import Mapping, Sequence

from upnext.errors import ReleaseError
from upnext.features.counted import NUM_CANDIDATE, NUM_QUERY
from upnext.features.features import RankingFeatures
from upnext.registry.release import Release
from upnext.schema import NUM_RESERVED_ROWS
from upnext.sources.scores import SOURCE_FEATURES

_LOGS = ("watches", "searches", "shown")
_COUNTS = ("item_counts", "channel_counts")

AS_LONG: Sequence[Mapping[str, int]] = (
    {
        "encoder/catalogue.items.ids": NUM_RESERVED_ROWS,
        "encoder/catalogue.items.order": NUM_RESERVED_ROWS,
        **dict.fromkeys(
            [
                f"encoder/catalogue.{name}"
                for name in (
                    *("channel_rows", "tag_rows", "duration_s"),
                    *("published_at_ms", "num_watches"),
                )
            ],
            0,
        ),
        "encoder/catalogue.title_starts": -1,
        "retrieval/item_vectors": 0,
        "ranking/item_vectors": 0,
    },
    {
        "users/ids": NUM_RESERVED_ROWS,
        "users/order": NUM_RESERVED_ROWS,
        "history/feature_rows": 0,
        **{f"history/{log}.starts": -1 for log in _LOGS},
    },
    *({f"history/{log}.{name}": 0 for name in ("rows", "at_ms", "watch_time_s")} for log in _LOGS),
    *({f"history/{counts}.{name}": 0 for name in ("keys", "sums")} for counts in _COUNTS),
    {"sources/together.num_watches": 0, "sources/together.starts": -1},
    {"sources/together.neighbour_rows": 0, "sources/together.similarities": 0},
    {f"sources/popular.{name}": 0 for name in ("pairs", "shares", "by_share")},
    {"sources/popular.general_weights": 0, "sources/popular.starts": -1},
    {"sources/fresh.published_at_ms": 0, "sources/fresh.lifts": 0},
    {"sources/fresh.rows_by_time": 0, "sources/fresh.times_ms": 0},
)
"""Arrays with as many lines, each with what is to be added: reserved rows have no id, and a list of
starts has one more for the end."""

ENDS: Mapping[str, str] = {f"history/{log}.starts": f"history/{log}.rows" for log in _LOGS} | {
    "sources/together.starts": "sources/together.neighbour_rows",
    "sources/popular.starts": "sources/popular.pairs",
}
"""Lists of starts, and the arrays that the last of them is the end of."""


def check_arrays_fit(release: Release) -> None:
    """Compares the lengths of all arrays that name one another's rows.

    Raises: ReleaseError: they are not of one release.
    """
    for group in AS_LONG:
        lengths = {
            name: len(release.array(f"{name}.npy")) + more
            for name, more in group.items()
            if f"{name}.npy" in release.files
        }
        for name, length in lengths.items():
            first, expected = next(iter(lengths.items()))
            if length != expected:
                raise _unfit(release, f"{name}.npy", f"lines for {expected:,} as {first}", length)
    for starts, array in ENDS.items():
        if {f"{starts}.npy", f"{array}.npy"} <= release.files.keys():
            end, length = (
                int(release.array(f"{starts}.npy")[-1]),
                len(release.array(f"{array}.npy")),
            )
            if end != length:
                raise _unfit(release, f"{starts}.npy", f"{length:,} at its end, as {array}", end)


def check_features_fit(release: Release, features: RankingFeatures) -> None:
    """Compares the features of a release with those that this version of upnext counts.

    Raises: ReleaseError: they are others, or their arrays do not fit one another.
    """
    for name in ("queries", "candidates"):
        scale = getattr(features, name)
        by_bin = (scale.bounds, scale.widths, scale.starts, scale.rises)
        shapes = {array.shape for array in by_bin}
        if len(shapes) > 1 or not len(scale.bounds) == len(scale.mean) == len(scale.deviation):
            where = f"ranking/features/{name}"
            raise _unfit(release, where, "arrays of one length", sorted(shapes))
    told = features.queries.num_features, features.num_sources
    if told not in ((NUM_QUERY, 0), (NUM_QUERY, len(SOURCE_FEATURES))):
        expected = (
            f"{NUM_QUERY} features of requests, {NUM_CANDIDATE} of candidates and "
            f"{len(SOURCE_FEATURES)} or none of their sources"
        )
        got = f"{told[0]}, {NUM_CANDIDATE} and {told[1]}"
        raise _unfit(release, "ranking/features", expected, got)
    if (manners := features.manners) is not None:
        num_channels, width = manners.vectors.shape
        fit = (
            manners.log_odds.shape == (num_channels,)
            and manners.moments.shape == (num_channels, width, width)
            and manners.precision.shape == (width,)
        )
        if not fit:
            got = f"moments of the shape {manners.moments.shape}"
            expected = f"those of {num_channels:,} channels with {width} numbers each"
            raise _unfit(release, "ranking/features/manners", expected, got)


def _unfit(release: Release, name: str, expected: str, got: object) -> ReleaseError:
    hint = "its files are of several trainings, or another version of upnext made it; train again."
    where = f"release {release.version}, {name}"
    return ReleaseError(where, expected=expected, got=str(got), hint=hint)
