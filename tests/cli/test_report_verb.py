"""`upnext report` writes one page about a release, whatever is known of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from upnext.registry.labels import append_move
from upnext.registry.release import publish

if TYPE_CHECKING:
    from tests.conftest import Upnext
