"""Settings side by side: what differs is shown, and nothing else is."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from upnext.console.comparing import only_differences, settings_side_by_side

names = st.sampled_from(["a", "b", "a.b", "", 'q"', "größe"]) | st.text(max_size=3)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, 0.5, 1.0])
    | st.text(max_size=2)
    | st.lists(st.integers(0, 1), max_size=2)
)
configs = st.recursive(
    st.dictionaries(names, leaves, max_size=3),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=3),
    max_leaves=8,
)


def leaves_of(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Values by their whole path, told from each other as JSON does: 1, 1.0 and true are three."""
    found: dict[tuple[str, ...], str] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            found |= leaves_of(value, (*path, name))
        else:
            found[*path, name] = json.dumps(value)
    return found


@given(st.lists(configs, min_size=1, max_size=3))
def test_exactly_what_differs_is_shown(several: list[dict[str, Any]]) -> None:
    flat = [leaves_of(config) for config in several]
    paths = {path for one in flat for path in one}
    wanted = [tuple(one.get(path) for one in flat) for path in paths]

    settings = settings_side_by_side(dict(enumerate(several)))
    shown = [tuple(setting.values[n] for n in range(len(several))) for setting in settings]
    parsed = [tuple(v if v is None else json.loads(v) for v in values) for values in shown]
    assert sorted(map(repr, parsed)) == sorted(
        repr(tuple(v if v is None else json.loads(v) for v in values)) for values in wanted
    )
    differing = [values for values in wanted if len(set(values)) > 1]
    assert len(only_differences(settings)) == len(differing)
    assert all(len(set(one.values.values())) > 1 for one in only_differences(settings))


@given(st.lists(configs, min_size=1, max_size=3))
def test_no_two_settings_share_a_name(several: list[dict[str, Any]]) -> None:
    settings = settings_side_by_side(dict(enumerate(several)))
    assert len({setting.name for setting in settings}) == len(settings)


@given(configs)
def test_a_config_does_not_differ_from_itself(config: dict[str, Any]) -> None:
    assert only_differences(settings_side_by_side({1: config, 2: config})) == []
    assert settings_side_by_side({}) == []
