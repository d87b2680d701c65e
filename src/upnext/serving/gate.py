"""The health gate: a label that answers worse than `stable` is taken back, without anybody's help.

Of each label's last answers it is counted how many were less than they could be (a stage failed or
came too late) and how long they took. Once enough have come, a label whose share of such answers is
above `stable`'s by `max_more_degraded`, or whose slow answers (the 95th percentile) take
`max_times_slower` as long, is no longer trusted.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upnext.config import require
from upnext.errors import ReleaseError
from upnext.registry.labels import read_standings
from upnext.registry.moves import move_label, rollback
from upnext.serving.traffic import STABLE

logger = logging.getLogger(__name__)

ACTOR = "health gate"
"""As the journal names who took a label back."""


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """When a label is taken back."""

    is_on: bool = True
    """Whether labels are taken back at all."""
    num_answers: int = 200
    """Last answers of each label that are looked at; none is judged by fewer."""
    max_more_degraded: float = 0.05
    """How much larger a label's share of failed or late answers may be than that of `stable`."""
    max_times_slower: float = 3.0
    """How many times as long its slow answers may take."""
    slow_ms: float = 20.0
    """Answers below this are never too slow."""

    def __post_init__(self) -> None:
        bounds = {"max_more_degraded": 0, "max_times_slower": 1, "slow_ms": 0}
        require("gate", self, at_least=bounds | {"num_answers": 10})


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer of a label."""

    version: int
    took_ms: float
    is_less: bool
    """Whether a stage failed or came too late."""


class Gate:
    """Remembers the last answers of each label, and judges."""

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self._seen: dict[str, deque[Seen]] = defaultdict(lambda: deque(maxlen=config.num_answers))

    def see(self, label: str, seen: Seen) -> None:
        """One more answer; a label that moved starts anew, as nothing is known of its release."""
        answers = self._seen[label]
        if answers and answers[-1].version != seen.version:
            answers.clear()
        answers.append(seen)

    def verdict(self, label: str) -> str | None:
        """Why a label is no longer trusted; None while it is, or too little was seen."""
        config, own, other = self._config, self._seen[label], self._seen[STABLE]
        if not config.is_on or label == STABLE or len(own) < config.num_answers:
            return None
        share, stables = _share_less(own), _share_less(other)
        if share > stables + config.max_more_degraded:
            return f"{share:.0%} of its answers failed or came late, of {STABLE}'s {stables:.0%}"
        slow_ms, bound_ms = _slow_ms(own), config.slow_ms
        if len(other) >= config.num_answers:
            bound_ms = max(bound_ms, config.max_times_slower * _slow_ms(other))
            if slow_ms > bound_ms:
                return f"its slow answers take {slow_ms:.0f} ms, {STABLE}'s {_slow_ms(other):.0f}"
        return None


def take_back(registry: Path, label: str, version: int, reason: str) -> None:
    """Rolls a label back, or where it has no earlier version points it at what is `stable`.

    Only if it stands at `version` still: another process may have seen the same, and been quicker.
    """
    try:
        standings = read_standings(registry)
        stable = standings.get(STABLE)
        # Where neither is, the rollback is refused and says why.
        if stable is None or standings[label].rollback_version is not None:
            rollback(registry, label, expected_previous=version, actor=ACTOR, reason=reason)
        else:
            there = stable.version
            move_label(
                registry, label, there, expected_previous=version, actor=ACTOR, reason=reason
            )
    except ReleaseError:
        logger.exception("label %s could not be taken back from release %d", label, version)


def _share_less(seen: Sequence[Seen]) -> float:
    return sum(one.is_less for one in seen) / max(1, len(seen))


def _slow_ms(seen: Sequence[Seen]) -> float:
    return float(np.percentile([one.took_ms for one in seen], 95))
