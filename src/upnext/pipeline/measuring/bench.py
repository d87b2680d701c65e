"""What a release is measured with: its recommender, later logs, and what their users watched."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from upnext.config import config_of_release
from upnext.errors import DataError
from upnext.examples.encoder import user_vocabulary
from upnext.examples.history import History
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.logs.read import read_logs
from upnext.logs.split import Split
from upnext.pipeline.config import RunConfig
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.measuring.baselines import Baseline, best_baselines
from upnext.pipeline.measuring.oracle import Oracle
from upnext.recommender import Recommender
from upnext.registry.release import Release, open_release
from upnext.schema import Logs


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A release, the logs it is measured on, and what its users really went on to watch."""

    config: RunConfig
    recommender: Recommender
    logs_directory: Path
    logs: Logs
    split: Split
    users: Vocabulary
    history: History
    targets: WatchTargets
    validation: WatchTargets
    num_rewatches: int

    @classmethod
    def prepare(cls, logs_directory: Path, registry: Path, version: int) -> "Bench":
        """Opens the release and encodes the logs with *its* encoder.

        Raises:
            DataError: the logs cannot be used, or a part of the split is empty.
            ReleaseError: there is no such release, or it is damaged.
        """
        release = open_release(registry, version, verify=False)
        where = f"release {version}, config.json"
        config = config_of_release(release.json("config.json"), RunConfig, where=where)
        # How many threads share a network's sums decides how they are rounded.
        recommender = Recommender.open(registry, version, num_threads=1)
        logs, _ = read_logs(logs_directory, config.logs)
        split = split_logs(logs, config.split)
        users = user_vocabulary(logs)
        history = recommender.encoder.history(logs, users)
        encoder, masked = recommender.encoder, config.evaluation.mask_watched
        validation = watch_targets(encoder, history, users, split.validation.watches)
        every_target = watch_targets(encoder, history, users, split.test.watches)
        targets = every_target.first_watches() if masked else every_target
        if not len(targets):
            raise DataError(
                f"{logs_directory}, test",
                expected="watches of items that their users had not watched before",
                got=f"{len(every_target)} watches, all of them again",
                hint="[evaluation] mask_watched = false makes these the targets.",
            )
        _require_later_test(release, split)
        return cls(
            config=config,
            recommender=recommender,
            logs_directory=logs_directory,
            logs=logs,
            split=split,
            users=users,
            history=history,
            targets=targets.sample(config.evaluation.num_targets, seed=0),
            validation=validation.first_watches() if masked else validation,
            num_rewatches=len(every_target) - len(targets),
        )

    @property
    def fitted_on(self) -> Logs:
        """What the release was trained on."""
        return self.split.train_and_validation if self.config.refit else self.split.train

    @cached_property
    def baselines(self) -> tuple[Baseline, ...]:
        """What the release has to beat, fitted on the logs that it was trained on."""
        return best_baselines(
            self.split.train,
            self.fitted_on,
            self.recommender.encoder,
            self.users,
            self.validation,
            self.config.evaluation,
        )

    @cached_property
    def oracle(self) -> Oracle | None:
        """The truth, where the logs were simulated."""
        return Oracle.open(self.logs_directory, self.logs, self.recommender, self.users)

    @property
    def masks_watched(self) -> bool:
        """Whether what a user has watched is neither ranked nor proposed."""
        return self.config.evaluation.mask_watched


def _require_later_test(release: Release, split: Split) -> None:
    """Other logs, or the same ones grown, are cut elsewhere than training cut them."""
    if split.test_from_ms is None:
        return
    learned_until = datetime.fromisoformat(release.metadata["train_until"])
    begins = datetime.fromtimestamp(split.test_from_ms / 1000, UTC)
    if learned_until >= begins:
        raise DataError(
            f"release {release.version}",
            expected=f"training that ended before the test, which begins {begins}",
            got=f"training up to {learned_until}",
            hint="evaluate with the logs that it was trained on, or with longer ones.",
        )
