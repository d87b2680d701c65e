"""What each input of ranking is about: arrays that belong together, and words for them.

Whoever takes a thing out of the inputs, be it to explain one answer or to measure what a network
lives on, takes out the same arrays under the same name.
"""

from collections.abc import Mapping

ALL_WATCHED = "all that was watched"
ALL_SHOWN = "all that was shown"
CONTEXT = "who asks, and when"
OF_REQUESTS: Mapping[str, tuple[str, ...]] = {
    ALL_WATCHED: (
        "history_rows",
        "history_channel_rows",
        "history_tag_rows",
        "history_duration_s",
        "history_age_s",
        "history_watch_time_s",
    ),
    ALL_SHOWN: ("shown_rows", "shown_channel_rows", "shown_tag_rows", "shown_age_s"),
    CONTEXT: ("context_rows",),
}
"""One line a request."""
OF_CANDIDATES: Mapping[str, str] = {
    "what everybody did with the item": "item_counts",
    "what everybody did on its channel": "channel_counts",
    "how new it is": "item_age_days",
    "how long it is": "duration_s",
    "what the sources of candidates think of it": "source_scores",
}
"""Numbers of each candidate."""
TIES_OF_CANDIDATES: Mapping[str, str] = {
    "which item it is": "item_rows",
    "the past with the item": "item_place",
    "the past on its channel": "channel_rows",
    "the past with its tags": "tag_rows",
    "where it stands on the page": "position",
}
"""What ties each candidate to vectors, to the user's past and to its page. A network looks the past
with something up by these alone, so that another candidate's leads it to the past with another."""
