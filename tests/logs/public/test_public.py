from pathlib import Path
from typing import Any, get_args

import pytest

from upnext.errors import ConfigError, DataError
from upnext.logs.public import PublicName, load_public


@pytest.mark.parametrize("name", get_args(PublicName))
def test_each_name_has_a_loader_that_says_where_its_set_is_published(
    tmp_path: Path, name: PublicName
) -> None:
    with pytest.raises(DataError, match="the official download is on"):
        load_public(name, tmp_path)


def test_the_loader_of_a_name_is_used(tmp_path: Path) -> None:
    (tmp_path / "Toys.txt").write_text("1 5 6\n")
    assert load_public("amazon-sequences", tmp_path).watches.frame.height == 2


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    name: Any = "netflix"
    with pytest.raises(ConfigError, match="movielens-100k"):
        load_public(name, tmp_path)
