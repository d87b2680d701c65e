"""Workers multiply in the same numbers, whatever each of their machines would rather."""

import pytest
import torch
from tests.training.workers import together

from upnext.training import precision
from upnext.training.group import Group
from upnext.training.precision import precision_on

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("num_slow", [0, 1])
def test_all_take_what_all_can(size: int, num_slow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(group: Group) -> str:
        monkeypatch.setattr(precision, "_is_quick", lambda _: group.rank >= num_slow)
        return precision_on("auto", CPU, group)

    assert together(size, asked) == ["bfloat16" if num_slow == 0 else "float32"] * size


def test_what_is_told_is_taken() -> None:
    assert precision_on("float32", CPU) == "float32"
    assert precision_on("bfloat16", CPU) == "bfloat16"
