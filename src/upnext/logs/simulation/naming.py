"""Names for an invented world: topics and their words, channels, titles, searches."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.schema import Floats, Rows

Source = Literal["popular", "fresh", "related", "random"]
"""What can nominate an item for a page."""
REGIONS = ("north", "south", "east", "west", "islands")
DEVICES = ("phone", "tablet", "computer", "tv")

TOPICS = {
    "cooking": "ramen curry dumplings soup knife stew spices pancakes",
    "baking": "sourdough bread croissant cake yeast dough oven muffins",
    "gardening": "tomatoes compost roses seeds orchard pruning greenhouse herbs",
    "woodwork": "dovetail chisel oak workbench lathe joinery varnish sawdust",
    "cycling": "bicycle gravel derailleur peloton climbing wheels commute tyres",
    "running": "marathon sprint pacing shoes intervals stride parkrun trail",
    "football": "goals penalty keeper derby tactics transfer midfield header",
    "tennis": "serve backhand racket volley clay deuce grandslam topspin",
    "chess": "gambit endgame checkmate opening rook blunder grandmaster pawn",
    "history": "empire castle medieval archive pharaoh treaty vikings revolution",
    "space": "rocket orbit mars telescope galaxy comet eclipse astronaut",
    "physics": "quantum gravity photon entropy laser magnet relativity plasma",
    "biology": "cell enzyme fungi genome evolution microscope ants whales",
    "geology": "volcano basalt glacier fossil quartz earthquake canyon minerals",
    "mathematics": "primes geometry proof integral infinity matrix fractal theorem",
    "programming": "python compiler debugging database terminal recursion keyboard algorithm",
    "electronics": "soldering circuit resistor oscilloscope battery sensor antenna capacitor",
    "photography": "lens portrait aperture tripod darkroom exposure filter landscape",
    "painting": "watercolour canvas brush pigment sketch easel fresco perspective",
    "pottery": "glaze kiln clayware vase teapot wheelthrown porcelain mug",
    "guitar": "chords riff fingerpicking amplifier strings solo ukulele capo",
    "piano": "sonata nocturne scales etude keys waltz metronome ragtime",
    "jazz": "saxophone swing trumpet bebop improvisation quartet bassline standards",
    "theatre": "stage monologue rehearsal costume shakespeare puppets curtain improv",
    "cinema": "director trailer western noir screenplay montage soundtrack cameo",
    "books": "novel poetry library mystery memoir paperback author chapter",
    "travel": "train hostel passport island market backpack ferry sunrise",
    "hiking": "summit ridge tent boots waterfall compass meadow campfire",
    "sailing": "regatta anchor mast harbour knots catamaran tide spinnaker",
    "fishing": "trout lure river carp fly angler reel bait",
    "dogs": "puppy terrier leash fetch sheepdog kennel beagle obedience",
    "cats": "kitten whiskers purring tabby litter scratching siamese catnip",
    "birds": "owl heron nest migration feathers robin binoculars falcon",
    "cars": "engine gearbox rally coupe turbo brakes garage suspension",
    "trains": "locomotive station railway steam signal freight tram timetable",
    "fashion": "denim tailoring sneakers linen runway vintage scarf stitching",
    "knitting": "yarn wool cardigan crochet needles mittens cable sweater",
    "meditation": "breathing mindfulness stillness mantra sleep posture calm retreat",
    "money": "savings budget mortgage pension inflation investing taxes rent",
    "news": "election parliament weather headline debate economy court briefing",
}
"""Each topic and the words that people use for it; no word belongs to two topics."""

PLAIN_OPENINGS = ("Slow", "Honest", "Simple", "Hands-on", "Late-night", "Small", "Quiet", "Proper")
PLAIN_ENDINGS = (
    "for beginners",
    "step by step",
    "in ten minutes",
    "from scratch",
    "explained",
    "at home",
    "with friends",
    "the long way",
)
BAIT_OPENINGS = ("SHOCKING", "Never try", "The secret of", "You are wrong about")
BAIT_ENDINGS = ("gone wrong", "they don't want you to see", "number 7 will amaze you", "(not fake)")
CHANNEL_PLACES = ("corner", "club", "studio", "daily", "lab", "diary", "school", "house")


def topic_words(topic_rows: Rows, word_rows: NDArray[np.int64]) -> pl.Series:
    """The word of each topic; `word_rows` is any whole number, counted round the topic's words."""
    words = pl.Series([word for words in TOPICS.values() for word in words.split()])
    num_words = len(words) // len(TOPICS)
    return words.gather(topic_rows * num_words + word_rows % num_words)


def topic_names(topic_rows: Rows) -> pl.Series:
    """The name of each topic."""
    return pl.Series(list(TOPICS)).gather(topic_rows)


def channel_names(channel_topics: Rows) -> pl.Series:
    """A name in two words for each channel, such as "ramen corner"; big worlds repeat some."""
    rows = np.arange(channel_topics.size)
    places = pl.Series(CHANNEL_PLACES).gather(rows // 8 % len(CHANNEL_PLACES))
    return topic_words(channel_topics, rows) + " " + places


def numbered_ids(prefix: str, num: int) -> pl.Series:
    """Ids of one width, counted from 0.

    >>> numbered_ids("v", 2).to_list()
    ['v00000', 'v00001']
    """
    width = max(5, len(str(num - 1)))
    return prefix + pl.int_range(num, eager=True).cast(pl.String).str.zfill(width)


def channel_ids(channel_topics: Rows) -> pl.Series:
    """A readable id for each channel, such as "ramen-corner-00012"."""
    return channel_names(channel_topics).str.replace_all(" ", "-") + numbered_ids(
        "-", channel_topics.size
    )


def titles(rng: np.random.Generator, main_topics: Rows, clickbaits: Floats) -> pl.Series:
    """A title for each item, such as "Slow ramen for beginners, part 3"; bait sounds like bait."""
    num = main_topics.size
    is_bait = rng.random(num) < clickbaits
    parts = rng.integers(1, 10, num)
    frame = pl.DataFrame(
        {
            "opening": _chosen(rng, is_bait, BAIT_OPENINGS, PLAIN_OPENINGS),
            "word": topic_words(main_topics, rng.integers(1 << 30, size=num)),
            "ending": _chosen(rng, is_bait, BAIT_ENDINGS, PLAIN_ENDINGS),
            "part": np.where(rng.random(num) < 0.3, parts, 0),
        }
    )
    part = pl.when(pl.col("part") > 0).then(pl.format(", part {}", "part")).otherwise(pl.lit(""))
    return frame.select(title=pl.format("{} {} {}{}", "opening", "word", "ending", part))["title"]


def queries(
    rng: np.random.Generator, topic_rows: Rows, channel_rows: Rows, channel_topics: Rows
) -> pl.Series:
    """What people type to find an item: one to three words of its topic, or its channel's name."""
    num = topic_rows.size
    num_words = rng.integers(1, 4, num)
    first = rng.integers(1 << 30, size=num)
    steps = rng.integers(1, 4, (2, num))
    by_channel = rng.random(num) < 0.25
    words = [topic_words(topic_rows, first + i * steps[max(0, i - 1)]) for i in range(3)]
    frame = pl.DataFrame(
        {
            "num_words": num_words,
            "by_channel": by_channel,
            "channel": channel_names(channel_topics).gather(channel_rows),
            **{f"word{i}": word for i, word in enumerate(words)},
        }
    )
    spoken = [pl.when(pl.col("num_words") > i).then(pl.col(f"word{i}")) for i in range(3)]
    by_words = pl.concat_str(spoken, separator=" ", ignore_nulls=True)
    query = pl.when("by_channel").then("channel").otherwise(by_words)
    return frame.select(query=query)["query"]


def _chosen(
    rng: np.random.Generator,
    is_bait: NDArray[np.bool_],
    bait: tuple[str, ...],
    plain: tuple[str, ...],
) -> pl.Series:
    rows = np.where(
        is_bait,
        rng.integers(len(bait), size=is_bait.size),
        len(bait) + rng.integers(len(plain), size=is_bait.size),
    )
    return pl.Series(bait + plain).gather(rows)
