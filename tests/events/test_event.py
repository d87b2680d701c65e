from typing import Any

import msgspec
import pytest

from upnext.events.event import (
    Event,
    ImpressionEvent,
    SearchEvent,
    ServedItem,
    ServedPage,
    WatchEvent,
)

WATCH = {
    "kind": "watch",
    "event_id": "e1",
    "user_id": 7,
    "item_id": "ü" * 128,
    "started_at_ms": 1_790_000_000_000,
    "watch_time_s": 12,
}
IMPRESSION = {
    "kind": "impression",
    "event_id": "e2",
    "user_id": "7",
    "item_id": -(2**63),
    "shown_at_ms": 0,
    "position": 9_999,
    "request_id": "r" * 128,
}
SEARCH = {
    "kind": "search",
    "event_id": "~ e3",
    "user_id": "a",
    "searched_at_ms": 253_402_300_799_999,
    "query": "q" * 1_000,
}
KINDS = {"watch": WatchEvent, "impression": ImpressionEvent, "search": SearchEvent}
WRONG: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (WATCH, {"event_id": ""}),
    (WATCH, {"event_id": "e" * 129}),
    (WATCH, {"event_id": "tab\t"}),
    (WATCH, {"event_id": "line\n"}),
    (WATCH, {"event_id": "é"}),
    (WATCH, {"user_id": ""}),
    (WATCH, {"user_id": "u" * 257}),
    (WATCH, {"user_id": 2**63}),
    (WATCH, {"item_id": "ü" * 129}),
    (WATCH, {"item_id": "nul\0"}),
    (WATCH, {"item_id": "damaged \ufffd"}),
    (WATCH, {"item_id": "1.5e+17"}),
    (WATCH, {"started_at_ms": -1}),
    (WATCH, {"started_at_ms": 253_402_300_800_000}),
    (WATCH, {"watch_time_s": -0.1}),
    (WATCH, {"watch_time_s": 86_400.1}),
    (WATCH, {"request_id": ""}),
    (IMPRESSION, {"position": -1}),
    (IMPRESSION, {"position": 10_000}),
    (IMPRESSION, {"shown_at_ms": -1}),
    (SEARCH, {"query": ""}),
    (SEARCH, {"query": "q" * 1_001}),
    (SEARCH, {"query": "nul\0"}),
    (SEARCH, {"searched_at_ms": -1}),
]


@pytest.mark.parametrize("fields", [WATCH, IMPRESSION, SEARCH], ids=lambda one: one["kind"])
def test_events_decode_from_json_and_back(fields: dict[str, Any]) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(fields), type=Event)
    made = KINDS[fields["kind"]](**{k: v for k, v in fields.items() if k != "kind"})
    assert decoded == made
    assert msgspec.json.decode(msgspec.json.encode(made), type=Event) == made


@pytest.mark.parametrize(("fields", "wrong"), WRONG, ids=lambda one: "".join(map(str, one))[:20])
def test_limits_hold_for_json_and_for_python(fields: dict[str, Any], wrong: dict[str, Any]) -> None:
    changed = fields | wrong
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(changed), type=Event)
    del changed["kind"]
    with pytest.raises(ValueError, match=next(iter(wrong))):
        KINDS[fields["kind"]](**changed)


@pytest.mark.parametrize("watch_time_s", [float("nan"), float("inf")])
def test_a_watch_time_is_a_number(watch_time_s: float) -> None:
    fields = {k: v for k, v in WATCH.items() if k != "kind"} | {"watch_time_s": watch_time_s}
    with pytest.raises(ValueError, match="watch_time_s"):
        WatchEvent(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body", ['{"kind": "click"}', '{"event_id": "e"}', '{"kind": "watch", "colour": 1}', "[]"]
)
def test_other_things_are_no_events(body: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=Event)


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        SearchEvent(event_id="e", user_id="\ud800", searched_at_ms=1, query="q")


@pytest.mark.parametrize("propensity", [0.0, -1.0, 1.001, float("nan")])
def test_a_propensity_is_a_probability_of_what_happened(propensity: float) -> None:
    with pytest.raises(ValueError, match="propensity"):
        ServedItem(item_id=1, propensity=propensity)


def test_a_page_has_items() -> None:
    with pytest.raises(ValueError, match="items"):
        ServedPage(request_id="r", user_id=1, served_at_ms=1, release="1", label="stable", items=[])
