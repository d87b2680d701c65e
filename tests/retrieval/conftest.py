"""A tiny platform, counted and encoded, for the tests of retrieval."""

import pytest

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.schema import Logs


@pytest.fixture(scope="session")
def encoder(tiny_logs: Logs) -> Encoder:
    return build_encoder(tiny_logs, ExamplesConfig(num_watches=10, num_searches=6, num_shown=20))


@pytest.fixture(scope="session")
def history(tiny_logs: Logs, encoder: Encoder) -> History:
    return encoder.history(tiny_logs, user_vocabulary(tiny_logs))
