import numpy as np
import pytest

from upnext.logs.simulation.naming import (
    BAIT_ENDINGS,
    BAIT_OPENINGS,
    TOPICS,
    channel_ids,
    channel_names,
    numbered_ids,
    queries,
    titles,
    topic_words,
)


def test_every_topic_has_eight_words_that_no_other_has() -> None:
    words = [word for text in TOPICS.values() for word in text.split()]
    assert {len(text.split()) for text in TOPICS.values()} == {8}
    assert len(set(words)) == len(words)


def test_word_numbers_go_round_the_words_of_the_topic() -> None:
    baking = np.full(9, list(TOPICS).index("baking"), dtype=np.int32)
    words = topic_words(baking, np.arange(9)).to_list()
    assert words[:8] == TOPICS["baking"].split()
    assert words[8] == words[0]


@pytest.mark.parametrize(("num", "last"), [(3, "u00002"), (1_000_001, "u1000000")])
def test_ids_have_one_width(num: int, last: str) -> None:
    ids = numbered_ids("u", num)
    assert ids[-1] == last
    assert ids.str.len_chars().n_unique() == 1


def test_channels_have_readable_ids_of_their_own() -> None:
    topics = np.tile(np.arange(40, dtype=np.int32), 50)
    assert channel_ids(topics).n_unique() == topics.size
    assert channel_ids(topics)[0] == "ramen-corner-00000"


def test_titles_speak_of_the_topic_and_bait_sounds_like_bait() -> None:
    topics = np.arange(40, dtype=np.int32)
    honest = titles(np.random.default_rng(0), topics, np.zeros(40, dtype=np.float32))
    bait = titles(np.random.default_rng(0), topics, np.ones(40, dtype=np.float32))
    for words, plain, loud in zip(TOPICS.values(), honest, bait, strict=True):
        assert any(word in plain for word in words.split())
        assert any(word in loud for word in words.split())
        assert loud.startswith(BAIT_OPENINGS)
        assert not plain.startswith(BAIT_OPENINGS)
        assert any(ending in loud for ending in BAIT_ENDINGS)


def test_queries_are_words_of_the_topic_or_the_name_of_the_channel() -> None:
    num = 2_000
    rng = np.random.default_rng(0)
    channel_topics = rng.integers(40, size=300).astype(np.int32)
    topics = rng.integers(40, size=num).astype(np.int32)
    channels = rng.integers(300, size=num).astype(np.int32)
    asked = queries(rng, topics, channels, channel_topics).to_list()
    names = channel_names(channel_topics).gather(channels).to_list()
    words = [set(text.split()) for text in TOPICS.values()]
    by_words = [q for q, name in zip(asked, names, strict=True) if q != name]
    assert all(
        query == name or set(query.split()) <= words[topic]
        for query, name, topic in zip(asked, names, topics, strict=True)
    )
    assert {len(set(query.split())) for query in by_words} == {1, 2, 3}
    assert 0.2 < 1 - len(by_words) / num < 0.3
