"""The verb `upnext recommend`: one request, and what may be asked of its page."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from upnext.cli.terminal import (
    AsJson,
    Registry,
    ReleaseName,
    print_result,
    stderr,
    stdout,
    time_ms,
    version_of,
)

if TYPE_CHECKING:
    from upnext.recommender import Recommender
    from upnext.schema import PastWatch, Recommendation, RecommendationRequest, Recommendations

User = Annotated[str | None, typer.Option(help="User id.")]
History = Annotated[str | None, typer.Option(help="Item ids, newest last: a,b,c.")]
Searches = Annotated[list[str] | None, typer.Option(help="A query; may be repeated.")]
HowMany = Annotated[int, typer.Option(help="How many items.")]
At = Annotated[str | None, typer.Option(help="ISO time or ms of the request, if not now.")]
WithWatched = Annotated[bool, typer.Option(help="Also recommend what was watched.")]

Diversity = Annotated[float, typer.Option(help="From 0 to 1: how much unlikeness counts.")]
MaxPerChannel = Annotated[int | None, typer.Option(metavar="N", help="Slots a channel may have.")]
FreshSlots = Annotated[
    int, typer.Option(metavar="N", help="Slots at least for what was published lately.")
]
FreshDays = Annotated[float, typer.Option(metavar="DAYS", help="How long ago is lately.")]
Explore = Annotated[
    int, typer.Option(metavar="N", help="Slots, the last ones, that are drawn by chance.")
]
Seed = Annotated[int | None, typer.Option(help="The same seed draws the same.")]

Why = Annotated[int, typer.Option(metavar="N", help="Tell N reasons for each item.")]

OnlyTags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Only items with one of these; may be repeated."),
]
BlockedTags = Annotated[
    list[str] | None,
    typer.Option("--block-tag", metavar="TAG", help="No items with it; may be repeated."),
]
OnlyChannels = Annotated[
    list[str] | None,
    typer.Option("--channel", metavar="ID", help="Only items of these; may be repeated."),
]
BlockedChannels = Annotated[
    list[str] | None,
    typer.Option("--block-channel", metavar="ID", help="No items of it; may be repeated."),
]
MinDuration = Annotated[
    float | None, typer.Option("--min-duration", metavar="SECONDS", help="No shorter items.")
]
MaxDuration = Annotated[
    float | None, typer.Option("--max-duration", metavar="SECONDS", help="No longer items.")
]
PublishedSince = Annotated[
    str | None, typer.Option(metavar="TIME", help="No older items; ISO time or ms.")
]


def recommend(
    registry: Registry,
    user: User = None,
    history: History = None,
    search: Searches = None,
    k: HowMany = 10,
    at: At = None,
    with_watched: WithWatched = False,
    diversity: Diversity = 0.0,
    max_per_channel: MaxPerChannel = None,
    fresh_slots: FreshSlots = 0,
    fresh_days: FreshDays = 7.0,
    explore: Explore = 0,
    seed: Seed = None,
    tags: OnlyTags = None,
    blocked_tags: BlockedTags = None,
    channels: OnlyChannels = None,
    blocked_channels: BlockedChannels = None,
    min_duration_s: MinDuration = None,
    max_duration_s: MaxDuration = None,
    published_since: PublishedSince = None,
    why: Why = 0,
    release: ReleaseName = "latest",
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user, or to whoever has this history."""
    from upnext.recommender import Recommender
    from upnext.schema import ItemRules, PageOptions, RecommendationRequest

    request = RecommendationRequest(
        user_id=user,
        history=_past(history),
        searches=search,
        k=k,
        at_ms=_time_ms(at, "--at"),
        exclude_watched=not with_watched,
        page=PageOptions(
            diversity=diversity,
            max_per_channel=max_per_channel,
            num_fresh=fresh_slots,
            fresh_days=fresh_days,
            num_explored=explore,
            seed=seed,
        ),
        rules=ItemRules(
            allowed_tags=tags,
            blocked_tags=blocked_tags,
            allowed_channels=channels,
            blocked_channels=blocked_channels,
            min_duration_s=min_duration_s,
            max_duration_s=max_duration_s,
            published_since_ms=_time_ms(published_since, "--published-since"),
        ),
        num_reasons=why,
    )
    recommender = Recommender.open(registry, version_of(registry, release), num_threads=2)
    _print(recommender.recommend(request), as_json=as_json)
    _tell_of_unknown(recommender, request)


def _tell_of_unknown(recommender: "Recommender", request: "RecommendationRequest") -> None:
    """What a release does not know is new to it, and answered; a slip of the pen looks the same."""
    from upnext.schema import UNKNOWN_ROW

    users, items = recommender.users, recommender.encoder.catalogue.items
    if request.user_id is not None and users.row(request.user_id) == UNKNOWN_ROW:
        stderr.print(f"user {request.user_id} is not in its logs: answered as somebody new")
    watched = [watch.item_id for watch in request.history or ()]
    if unknown := [str(item) for item in watched if items.row(item) == UNKNOWN_ROW]:
        stderr.print(f"not among its items: {', '.join(unknown)}")


def _past(history: str | None) -> "list[PastWatch] | None":
    from upnext.schema import PastWatch

    if history is None:
        return None
    return [PastWatch(item_id=item.strip()) for item in history.split(",") if item.strip()]


def _time_ms(text: str | None, flag: str) -> int | None:
    return None if text is None else time_ms(text, flag=flag)


def _nominators(item: "Recommendation") -> str:
    rank = "" if item.retrieval_rank is None else f" {item.retrieval_rank}"
    return ", ".join(
        f"{source}{rank}" if source == "retrieval" else source for source in item.sources
    )


def _print(answer: "Recommendations", *, as_json: bool) -> None:
    """The table to stdout; how it came about, and what is amiss, to stderr."""
    if as_json:
        print_result(msgspec.to_builtins(answer))
        return
    is_drawn = any(item.explored for item in answer.items)
    more = ["drawn with probability"] if is_drawn else []
    table = Table("#", "item", "title", "expected watch time", "nominated by", *more, box=None)
    for place, item in enumerate(answer.items, start=1):
        seconds = item.expected_watch_time_s
        told = "–" if seconds is None else f"{seconds:.1f} s"
        row = [str(place), str(item.item_id), item.title or "", told, _nominators(item)]
        chance = f"{item.propensity:.4f}" if item.explored else ""
        table.add_row(*row, *([chance] if is_drawn else []))
        for reason in item.reasons:
            about = reason.about if reason.item_id is None else f"{reason.about} {reason.item_id}"
            table.add_row("", "", f"  {about}", f"{reason.watch_time_s:+.1f} s")
    stdout.print(table)
    for cause in answer.degraded:
        stderr.print(cause)
    timings = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in answer.timings_ms.items())
    stderr.print(f"release {answer.release}, {answer.num_candidates} candidates; {timings}")
