"""What every ranking network promises, from raw inputs to seconds, trained or exported."""

from dataclasses import dataclass, replace

import numpy as np
import onnxruntime
import pytest
import torch

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.ranking_inputs import RankingInputs
from upnext.features.features import CANDIDATE_LEVELS, RankingFeatures
from upnext.pipeline.releasing import _write_ranking
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.levels import fit_features
from upnext.ranking.model import RankingModel
from upnext.ranking.objectives import new_objective
from upnext.ranking.step import outcomes_of
from upnext.ranking.train import TrainedRanking
from upnext.recommender.files import Network
from upnext.recommender.ranker import Ranker
from upnext.schema import Floats, Logs

NETWORK = RankingNetworkConfig(
    hidden_sizes=(12, 6),
    embedding_scale=1.0,
    context_embedding_size=2,
    factors=3,
    crosses=(("history_items", "item"), ("hour", "tags"), ("region", "position", "channel")),
    num_cross_buckets=500,
)
CONFIGS = {
    "mlp": RankingConfig(network=NETWORK),
    "logistic regression": RankingConfig(network=replace(NETWORK, hidden_sizes=(), factors=0)),
    "wide-and-deep": RankingConfig(
        network=replace(NETWORK, kind="wide-and-deep"), objective="click-and-share"
    ),
    "din": RankingConfig(network=replace(NETWORK, kind="din", attended_watches=4), objective="d2q"),
}
NAMES = list(CONFIGS)
NUM_SOURCES = 2


@dataclass(frozen=True)
class World:
    """Logged requests, and the places of their candidates."""

    encoder: Encoder
    examples: ImpressionExamples

    def inputs(self, requests: list[int], *, candidates: np.ndarray | None = None) -> RankingInputs:
        """Of some requests, in that order; their candidates in order, or else in that one."""
        raw, _ = self.examples.inputs(self.encoder, np.array(requests, np.int64))
        if candidates is None:
            return raw
        chosen = np.array(requests, np.int64)
        return RankingInputs(
            self.encoder,
            self.examples.history,
            user_rows=self.examples.user_rows[chosen],
            at_ms=self.examples.at_ms[chosen],
            request_index=raw.request_index[candidates],
            item_rows=raw.item_rows[candidates],
            position=raw.position[candidates],
            source_scores=raw.source_scores[candidates],
        )


@pytest.fixture(scope="module")
def world(tiny_logs: Logs) -> World:
    config = ExamplesConfig(
        num_watches_ranked=8,
        num_shown=30,
        clock=("hour",),
        user_features=("region",),
        item_features=("channel_id", "tags", "duration_s"),
    )
    encoder, users = build_encoder(tiny_logs, config), user_vocabulary(tiny_logs)
    assert tiny_logs.impressions is not None
    examples = build_impression_examples(
        encoder, encoder.history(tiny_logs, users), users, tiny_logs.impressions
    )
    rng = np.random.default_rng(1)
    scores = rng.exponential(size=(len(examples.item_rows), NUM_SOURCES)).astype(np.float32)
    item_rows = np.where(rng.random(len(scores)) < 0.1, np.int32(1), examples.item_rows)
    return World(encoder, replace(examples, source_scores=scores, item_rows=item_rows))


@pytest.fixture(scope="module")
def models(world: World) -> dict[str, RankingModel]:
    """As training begins them, with random weights of crosses and a calibration that bends."""
    encoder, examples = world.encoder, world.examples
    outcomes = outcomes_of(encoder, examples, slice(None), torch.device("cpu"))
    made = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(2)
        num_outputs = len(new_objective(config).count(outcomes))
        model = RankingModel(
            encoder, config, num_sources=NUM_SOURCES, num_outputs=num_outputs
        ).eval()
        model.scoring.objective.count(outcomes)
        fit_features(model, encoder, examples, np.random.default_rng(3))
        with torch.no_grad():
            for weight_name, weight in model.scoring.network.named_parameters():
                if weight_name == "wide":
                    weight.copy_(torch.randn_like(weight))
        predicted = np.geomspace(0.01, 1_000, 500).astype(np.float32)
        model.scoring.calibration.fit("isotonic", predicted, 3 * predicted**0.7)
        made[name] = model
    return made


def seconds_of(model: RankingModel, raw: RankingInputs) -> Floats:
    with torch.inference_mode():
        seconds: Floats = model(raw).numpy()
    return seconds


REQUESTS = [400, 17, 350, 402, 18]


@pytest.mark.parametrize("name", NAMES)
def test_a_request_is_answered_alike_alone_and_in_company(
    world: World, models: dict[str, RankingModel], name: str
) -> None:
    together = seconds_of(models[name], world.inputs(REQUESTS))
    alone = [seconds_of(models[name], world.inputs([request])) for request in REQUESTS]
    np.testing.assert_allclose(np.concatenate(alone), together, rtol=1e-4)
    assert together.std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_candidate_is_scored_alike_alone_and_in_company(
    world: World, models: dict[str, RankingModel], name: str
) -> None:
    together = seconds_of(models[name], world.inputs([400]))
    for place in range(len(together)):
        alone = world.inputs([400], candidates=np.array([place]))
        np.testing.assert_allclose(seconds_of(models[name], alone), together[[place]], rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_requests_and_candidates_does_not_matter(
    world: World, models: dict[str, RankingModel], name: str
) -> None:
    raw = world.inputs(REQUESTS)
    expected = seconds_of(models[name], raw)
    shuffled = np.random.default_rng(4).permutation(len(expected))
    found = seconds_of(models[name], world.inputs(REQUESTS, candidates=shuffled))
    np.testing.assert_allclose(found, expected[shuffled], rtol=1e-4)
    by_request = [expected[raw.request_index == place] for place in range(len(REQUESTS))]
    backwards = seconds_of(models[name], world.inputs(REQUESTS[::-1]))
    np.testing.assert_allclose(backwards, np.concatenate(by_request[::-1]), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_output_bias_moves_every_output_by_as_much(
    world: World, models: dict[str, RankingModel], name: str
) -> None:
    scoring, inputs = models[name].scoring, models[name].inputs(world.inputs(REQUESTS))
    bias = scoring.network.output_bias
    moves = torch.arange(1.0, 1.0 + len(bias))
    with torch.no_grad():
        before = scoring.outputs(inputs)
        bias.add_(moves)
        after = scoring.outputs(inputs)
        bias.sub_(moves)
    torch.testing.assert_close(after, before + moves, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_empty_slots_of_the_past_say_nothing(
    world: World, models: dict[str, RankingModel], name: str
) -> None:
    """Of users who have fewer watches and impressions behind them than there are slots."""
    early = world.inputs(list(range(60)))
    has_room = (early.history_rows[:, 0] == 0) & (early.shown_rows[:, 0] == 0)
    first = np.flatnonzero(has_room).tolist()
    more = replace(world.encoder.config, num_watches_ranked=20, num_shown=50)
    roomier = replace(world, encoder=replace(world.encoder, config=more))
    raw, wide = world.inputs(first), roomier.inputs(first)
    assert raw.history_rows.any(axis=1).sum() > 3
    assert wide.history_rows.shape[1] == 20
    expected = seconds_of(models[name], raw)
    np.testing.assert_allclose(seconds_of(models[name], wide), expected, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_nobodys_request_and_one_without_candidates_are_ordinary(
    world: World, models: dict[str, RankingModel], name: str
) -> None:
    raw = world.inputs([400])
    nobody = RankingInputs(
        world.encoder,
        world.examples.history,
        user_rows=np.array([1]),
        at_ms=world.examples.at_ms[[400]],
        request_index=raw.request_index,
        item_rows=raw.item_rows,
        position=raw.position,
        source_scores=raw.source_scores,
    )
    assert not nobody.history_rows.any()
    seconds = seconds_of(models[name], nobody)
    assert np.isfinite(seconds).all()
    assert (seconds > 0).all()
    nothing = world.inputs([400, 17], candidates=np.zeros(0, np.int64))
    assert seconds_of(models[name], nothing).shape == (0,)


@pytest.fixture(scope="module", params=["wide-and-deep", "din"])
def exported(
    request: pytest.FixtureRequest,
    world: World,
    models: dict[str, RankingModel],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RankingModel, Ranker]:
    """The model in memory, and what a release holds of it; the MLP's are in laws/."""
    model, folder = models[request.param], tmp_path_factory.mktemp(request.param) / "ranking"
    _write_ranking(folder, world.encoder, TrainedRanking(model, (), 0))
    session = onnxruntime.InferenceSession(folder / "network.onnx")
    network = Network(session, {node.name: node.shape for node in session.get_inputs()})
    features = {path.stem: np.load(path) for path in (folder / "features").iterdir()}
    return model, Ranker(
        features=RankingFeatures.from_arrays(features),
        item_vectors=np.load(folder / "item_vectors.npy"),
        network=network,
    )


@pytest.mark.parametrize("requests", [[400], [400, 17], list(range(300, 380))])
def test_the_exported_network_scores_as_the_one_in_memory(
    world: World, exported: tuple[RankingModel, Ranker], requests: list[int]
) -> None:
    model, ranker = exported
    raw = world.inputs(requests)
    np.testing.assert_allclose(ranker.seconds_of(raw), seconds_of(model, raw), rtol=1e-5, atol=1e-5)
    one = world.inputs(requests, candidates=np.array([len(raw.item_rows) - 1]))
    np.testing.assert_allclose(ranker.seconds_of(one), seconds_of(model, one), rtol=1e-5, atol=1e-5)


def test_the_exported_network_takes_what_it_needs(exported: tuple[RankingModel, Ranker]) -> None:
    model, ranker = exported
    names = ranker.network.inputs.keys()
    assert {"item_vectors", "history_pooled", "shown_pooled", CANDIDATE_LEVELS} <= names
    assert ("history_vectors" in names) == ("history_vectors" in model.scoring.network.reads)
    assert ranker.num_sources == NUM_SOURCES
