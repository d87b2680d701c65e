"""upnext's ranking on the common task, at the sizes of its rivals.

Its rivals get features and histories ready made. upnext starts from logs, so that its time holds
what a training day pays: to encode each batch and to compute its features.

    python -m benchmarks.upnext_ranking TASK --network mlp
"""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.ranking_task import Network, Part, RankingSettings, leave_scores, logs_of
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.logs.read import read_logs
from upnext.logs.split import split_by_time
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.train import TrainedRanking, train_ranking
from upnext.schema import Logs
from upnext.training.logbook import Epoch

REQUESTS_AT_ONCE = 500
LEARNING_RATE = 0.002
"""On validation the AUC of the plain network hardly changes from .0005 to .004."""
NUM_WATCHES = 50
EXAMPLES = ExamplesConfig(num_watches_ranked=NUM_WATCHES, num_shown=100)
ATTENTION_SIZE = 64
TRAIN_DAYS, VALIDATION_DAYS, TEST_DAYS = 8, 1, 1


def network_of(network: Network, settings: RankingSettings) -> RankingNetworkConfig:
    """The network of that name, at the sizes that all contestants have."""
    match network:
        case "mlp":
            return RankingNetworkConfig(hidden_sizes=settings.hidden_sizes, factors=0)
        case "din":
            return RankingNetworkConfig(
                kind="din",
                hidden_sizes=settings.hidden_sizes,
                factors=0,
                attended_watches=NUM_WATCHES,
                attention_size=ATTENTION_SIZE,
            )


@dataclass(frozen=True)
class Encoded:
    """The task as upnext's trainer takes it; every impression knows what came before it."""

    encoder: Encoder
    train: ImpressionExamples
    validation: ImpressionExamples
    test: ImpressionExamples

    @classmethod
    def of(cls, logs: Logs) -> "Encoded":
        """Splits, counts and encodes; what is learned from fills the days before validation."""
        split = split_by_time(
            logs,
            train_days=TRAIN_DAYS,
            validation_days=VALIDATION_DAYS,
            test_days=TEST_DAYS,
        )
        encoder, users = build_encoder(split.train, EXAMPLES), user_vocabulary(logs)
        history = encoder.history(logs, users)

        def examples(part: Logs) -> ImpressionExamples:
            assert part.impressions is not None
            return build_impression_examples(encoder, history, users, part.impressions)

        return cls(encoder, examples(split.train), examples(split.validation), examples(split.test))

    def part(self, name: Part) -> ImpressionExamples:
        """The impressions of that part."""
        examples: ImpressionExamples = getattr(self, name)
        return examples


def train(network: Network, task: Path, settings: RankingSettings) -> None:
    """Trains, scores and reports."""
    logs, _ = read_logs(logs_of(task))
    encoded, watch = Encoded.of(logs), Stopwatch()
    examples = encoded.train
    impressions_per_request = len(examples.item_rows) / examples.num_requests
    config = RankingConfig(
        network=network_of(network, settings),
        requests_per_batch=round(settings.batch_size / impressions_per_request),
        learning_rate=settings.learning_rate or LEARNING_RATE,
        learning_rate_schedule="constant",
        num_epochs=settings.num_epochs,
        patience=settings.num_epochs,
        calibration="none",
        source_parts=0,
        seed=settings.seed,
    )

    def on_epoch(_: Epoch) -> None:
        watch.stop()
        watch.start()

    watch.start()
    trained = train_ranking(encoded.encoder, examples, None, config, on_epoch=on_epoch)
    asked = encoded.part(settings.part)
    leave_scores(task, scores_of(trained, encoded.encoder, asked))
    report(
        f"upnext_{network}",
        settings,
        speed=watch.speed(len(examples.item_rows)),
        training_s=watch.total_s,
        measured={},
        learning_rate=config.learning_rate,
    )


def scores_of(
    trained: TrainedRanking, encoder: Encoder, examples: ImpressionExamples
) -> NDArray[np.float32]:
    """[M] expected seconds of all impressions."""
    parts = []
    with torch.inference_mode():
        for start in range(0, examples.num_requests, REQUESTS_AT_ONCE):
            end = min(start + REQUESTS_AT_ONCE, examples.num_requests)
            raw, _ = examples.inputs(encoder, np.arange(start, end))
            parts.append(trained.model(raw).numpy())
    return np.concatenate(parts)


if __name__ == "__main__":
    parser = arguments("upnext", RankingSettings)
    parser.add_argument("--network", choices=get_args(Network), default="mlp")
    given = parser.parse_args()
    train(given.network, given.task, read_settings(given, RankingSettings))
