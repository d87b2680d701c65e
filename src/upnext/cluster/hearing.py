"""What workers tell the driver: progress, epochs, words and errors, passed on as they come."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import ray
from ray.exceptions import RayError
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from upnext.errors import UpnextError
from upnext.training.crew import OnEpoch
from upnext.training.logbook import Epoch, Logbook, Progress

LISTEN_EVERY_S = 0.2

Message = Progress | Epoch | str | UpnextError


@dataclass
class Ear:
    """Takes what comes over `queue`; `failures` are errors of workers, and of whoever is told.

    An epoch that was learned again after a loss is told once.
    """

    queue: Queue
    on_epoch: OnEpoch
    logbook: Logbook
    failures: list[Exception] = field(default_factory=list)
    told_epochs: set[int] = field(default_factory=set)

    def pass_on(self, message: Message) -> None:
        """Tells whom it concerns."""
        match message:
            case Progress():
                self.logbook.on_progress(message)
            case Epoch() if message.epoch not in self.told_epochs:
                self.told_epochs.add(message.epoch)
                self.on_epoch(message)
            case UpnextError():
                self.failures.append(message)
            case str():
                self.logbook.say(message)

    def listen(self, ends: threading.Event) -> None:
        """Until it ends and all has been passed on, or the queue is no more."""
        while True:
            closing = ends.is_set()
            try:
                self.pass_on(self.queue.get(timeout=LISTEN_EVERY_S))
            except Empty:
                if closing:
                    return
            except RayError:
                return
            except Exception as error:  # of whoever is told; it is raised where they wait
                self.failures.append(error)


@contextmanager
def listening(on_epoch: OnEpoch, logbook: Logbook) -> Iterator[Ear]:
    """An ear on the node of this process, so that no other node's loss is its end."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    ear, ends = Ear(queue, on_epoch, logbook), threading.Event()
    listener = threading.Thread(target=ear.listen, args=(ends,), daemon=True)
    listener.start()
    try:
        yield ear
    finally:
        ends.set()
        listener.join()
        queue.shutdown()
