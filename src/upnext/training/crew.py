"""Who does a stage's training: this process, or many workers elsewhere."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from upnext.training.logbook import Epoch, Logbook

T = TypeVar("T")
OnEpoch = Callable[[Epoch], None]


class Crew(Protocol):
    """Has a stage trained, and gives what came of it."""

    def __call__(self, train: Callable[..., T], *, on_epoch: OnEpoch, logbook: Logbook) -> T:
        """What `train(on_epoch=…, logbook=…)` gives.

        `train` wants nothing else but, perhaps, a `group`; it can be pickled.
        """


def this_process(train: Callable[..., T], *, on_epoch: OnEpoch, logbook: Logbook) -> T:
    """The crew of one machine."""
    return train(on_epoch=on_epoch, logbook=logbook)
