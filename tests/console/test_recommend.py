"""The page of one user: what it asks of the server, and what it shows."""

import re
from html import unescape

import httpx
import pytest
from tests.console.fake_platform import KNOWN_UNTIL_MS, FakePlatform
from tests.console.fake_server import FakeServer
from tests.console.reading import USER, asked_of, listed, text_of

from upnext.console.moves import moves
from upnext.console.question import Question, Watched


def test_before_anybody_is_chosen_users_are_links_and_nothing_is_asked(
    visitor: httpx.Client, fake: FakeServer, platform: FakePlatform
) -> None:
    html = visitor.get("/recommend").text
    for user_id in platform.users:
        assert f'href="/recommend?user_id={user_id}&amp;k=10"' in html
    assert asked_of(fake) == []


@pytest.mark.parametrize(
    "question",
    [
        Question(),
        USER,
        USER.but(release="stable", beside="canary", why="v00001", num_explored=2, seed=7),
        USER.but(release="2", exclude_watched=False, diversity=0.25, max_per_channel=2),
        USER.but(at_ms=KNOWN_UNTIL_MS, num_fresh=1),
        Question(history=(Watched(item_id="v00001", watch_time_s=60.5), Watched(item_id="x'<"))),
        Question(user_id="nobody & <i>co</i>"),
    ],
)
def test_the_server_is_asked_what_the_url_says_and_never_logs_it(
    visitor: httpx.Client, fake: FakeServer, question: Question
) -> None:
    answer = visitor.get(question.url())
    assert answer.status_code == 200
    wanted = [question.body(question.user_id)]
    if question.beside is not None:
        wanted.append(question.but(release=question.beside).body(question.user_id))
    told = asked_of(fake)
    assert sorted(told, key=str) == sorted(wanted, key=str)
    assert {body["is_logged"] for body in told} == {False}


def test_the_list_stands_in_its_order_with_what_each_stage_thought(visitor: httpx.Client) -> None:
    html = visitor.get(USER.but(num_explored=1).url()).text
    assert listed(html) == [[f"v{n:05}" for n in (0, 1, 2, 8, 9, 10, 11, 12)]]
    text = text_of(html)
    assert "v00002 · not retrieved, score 1.77 · by fresh" in text
    assert html.count('<span class="badge">explored</span>') == 1
    assert "propensity 0.0093" in text
    assert "5.3 ms in the server" in text
    for title in ("Goats, live, part 7", "71.7%", "4be0a6c4f2"):
        assert title in text


def test_titles_are_never_markup(visitor: httpx.Client) -> None:
    for url in (USER.but(beside="canary").url(), USER.but(why="v00002").url(), "/item"):
        html = visitor.get(url).text
        assert "<b>cheese" not in html
        assert "&lt;b&gt;cheese" in html


def test_whoever_the_release_does_not_know_is_answered_too(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    answer = visitor.get(Question(user_id="<nobody>").url())
    assert answer.status_code == 200
    assert "does not know this user" in text_of(answer.text)
    assert len(listed(answer.text)[0]) == 10
    assert asked_of(fake)[0]["user_id"] == "<nobody>"


def test_two_labels_side_by_side_mark_what_moved(visitor: httpx.Client) -> None:
    html = visitor.get(USER.but(release="stable", beside="canary").url()).text
    before, after = listed(html)
    columns = html.split('<ol class="ranked">')
    marks = re.findall(r'<span class="move \w+"><span aria-hidden="true">(.*?)</span>', columns[2])
    assert marks == [str(move) for move in moves(before, after)]
    assert {"▲ 2", "▼ 1", "new"} <= set(marks)
    left = [item_id for item_id in before if item_id not in after]
    assert columns[1].count('<span class="move gone">') == len(left)
    assert f"{100 * (8 - len(left)) / 8:g}% of the items are in stable too" in text_of(html)


def test_reasons_are_asked_only_where_one_is_wanted(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    assert "Why so long" not in visitor.get(USER.url()).text
    html = visitor.get(USER.but(why="v00001").url()).text
    assert ["num_reasons" in body for body in asked_of(fake)] == [False, True]
    assert html.count("Why so long</h3>") == 1
    text = text_of(html)
    assert "+21.4 s" in text
    assert "−3.8 s" in text
    assert "watching Goats, live, part 3" in text


def test_what_is_amiss_with_an_answer_is_an_alert(
    visitor: httpx.Client, fake: FakeServer, platform: FakePlatform
) -> None:
    tell = platform.answers()["POST /v1/recommendations"]
    cause = "the live store could not be read"
    fake.answers["POST /v1/recommendations"] = lambda asked: {**tell(asked), "degraded": [cause]}
    assert re.search(f'role="alert">[^<]*{cause}', visitor.get(USER.url()).text)


def test_a_label_that_is_not_served_is_told_and_the_form_stays(visitor: httpx.Client) -> None:
    answer = visitor.get(USER.but(release="beta").url())
    assert answer.status_code == 404
    assert "expected a loaded release, got 'beta'" in unescape(answer.text)
    assert '<option value="beta" selected>' in answer.text
    beside = visitor.get(USER.but(beside="beta").url())
    assert beside.status_code == 200
    assert len(listed(beside.text)) == 1


def test_a_url_that_makes_no_sense_is_told(visitor: httpx.Client, fake: FakeServer) -> None:
    answer = visitor.get("/recommend?user_id=u1&k=many")
    assert answer.status_code == 400
    assert "a whole number" in answer.text
    assert asked_of(fake) == []


def test_the_end_of_the_logs_is_a_link(visitor: httpx.Client) -> None:
    url = USER.but(at_ms=KNOWN_UNTIL_MS).url().replace("&", "&amp;")
    assert f'href="{url}">the end of the logs' in visitor.get(USER.url()).text


def test_a_history_by_hand_is_grown_by_links_and_takes_no_watches(visitor: httpx.Client) -> None:
    made = Question(history=(Watched(item_id="v00001"), Watched(item_id="nope")), user_id="u00003")
    html = visitor.get(f"{made.url()}&search=ramen").text
    assert 'name="event_id"' not in html
    assert "unknown to the release" in text_of(html)
    more = made.with_watched("v00008").url(search="ramen").replace("&", "&amp;")
    assert f'href="{more}">Add Slow ramen' in html
    assert f'href="{made.without(0).url().replace("&", "&amp;")}"' in html
