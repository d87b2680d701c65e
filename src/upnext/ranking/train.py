"""Trains the ranking network on impressions, watched or not."""

from collections.abc import Callable
from dataclasses import dataclass

from upnext.errors import DataError
from upnext.examples.encoder import Encoder
from upnext.examples.impressions import ImpressionExamples
from upnext.ranking.calibration import Calibration
from upnext.ranking.config import RankingConfig
from upnext.ranking.model import RankingModel
from upnext.ranking.step import RankingTask
from upnext.training.group import ALONE, Group
from upnext.training.logbook import Epoch, Logbook
from upnext.training.loop import fit
from upnext.training.task import Plan


@dataclass(frozen=True)
class TrainedRanking:
    """The network of the best epoch: that of the best validation loss, or else the last."""

    model: RankingModel
    epochs: tuple[Epoch, ...]
    best_epoch: int

    @property
    def calibration(self) -> Calibration:
        """What brings its seconds to those that validation saw."""
        return self.model.scoring.calibration


def train_ranking(
    encoder: Encoder,
    examples: ImpressionExamples,
    validation: ImpressionExamples | None,
    config: RankingConfig,
    *,
    stop_after: int | None = None,
    calibration: Calibration | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    logbook: Logbook | None = None,
    group: Group = ALONE,
) -> TrainedRanking:
    """Learns the expected watch time of an impression.

    Args:
        stop_after: epochs after which to end, though the learning rate falls as for all of them.
        calibration: taken over where there is no validation to fit one on.
        logbook: who is told, and the folder from which a run that was cut short goes on.
        group: the workers that do this together, each with all other arguments the same.

    Raises:
        DataError: no impression was watched.
        TrainingError: the loss is no longer a finite number.
    """
    if not examples.watched.any():
        raise DataError(
            "impressions",
            expected="some that were watched",
            got="none",
            hint="check the column that is mapped to `watched`.",
        )
    task = RankingTask(encoder, examples, validation, config, group=group)
    fitted = fit(task, Plan.of(config, stop_after=stop_after), on_epoch=on_epoch, logbook=logbook)
    task.model.eval()
    if task.validation is not None:
        task.model.scoring.calibration.fit(config.calibration, *task.validation_seconds())
    elif calibration is not None:
        task.model.scoring.calibration.load_state_dict(calibration.state_dict())
    return TrainedRanking(task.model, fitted.epochs, fitted.best_epoch)
