"""Official downloads of public data sets → `Logs`: a loader each, and one door to all of them."""

from pathlib import Path
from typing import Literal, get_args

from upnext.errors import ConfigError
from upnext.logs.public.kuaishou import load_kuairand, load_kuairec
from upnext.logs.public.movielens import load_movielens_1m, load_movielens_100k
from upnext.logs.public.news import load_eb_nerd, load_globo
from upnext.logs.public.sequences import load_amazon_sequences
from upnext.schema import Logs

__all__ = [
    "PublicName",
    "load_amazon_sequences",
    "load_eb_nerd",
    "load_globo",
    "load_kuairand",
    "load_kuairec",
    "load_movielens_1m",
    "load_movielens_100k",
    "load_public",
]

PublicName = Literal[
    "movielens-100k", "movielens-1m", "kuairand", "kuairec", "eb-nerd", "globo", "amazon-sequences"
]


def load_public(name: PublicName, path: Path) -> Logs:
    """Loads the official download of a public data set; how it is read stands with its loader.

    Args:
        path: the unpacked folder, or the folder that it lies in.

    Raises:
        ConfigError: there is no loader of that name.
        DataError: a file is missing, cut short or of another format.
    """
    match name:
        case "movielens-100k":
            return load_movielens_100k(path)
        case "movielens-1m":
            return load_movielens_1m(path)
        case "kuairand":
            return load_kuairand(path)
        case "kuairec":
            return load_kuairec(path)
        case "eb-nerd":
            return load_eb_nerd(path)
        case "globo":
            return load_globo(path)
        case "amazon-sequences":
            return load_amazon_sequences(path)
        case _:
            raise ConfigError(
                "public data set",
                expected=f"one of {', '.join(get_args(PublicName))}",
                got=repr(name),
            )
