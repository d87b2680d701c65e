"""Watch logs in, a served two-stage recommender out.

Each name below is loaded from its room when it is first asked for, so that `import upnext` costs
nothing and a program that only serves never loads what trains.

>>> import upnext
>>> upnext.RecommendationRequest(user_id="u00017", k=3).k
3
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upnext.config import read_config as read_config
    from upnext.errors import ConfigError as ConfigError
    from upnext.errors import DataError as DataError
    from upnext.errors import ReleaseError as ReleaseError
    from upnext.errors import RequestError as RequestError
    from upnext.errors import UpnextError as UpnextError
    from upnext.evaluation.report import EvaluationReport as EvaluationReport
    from upnext.export.probabilities import class_probabilities as class_probabilities
    from upnext.export.projector import export_projector as export_projector
    from upnext.export.vectors import export_vectors as export_vectors
    from upnext.logs.public import load_public as load_public
    from upnext.logs.read import LogsConfig as LogsConfig
    from upnext.logs.read import check_logs as check_logs
    from upnext.logs.read import read_logs as read_logs
    from upnext.logs.read import write_logs as write_logs
    from upnext.logs.simulation.simulate import simulate as simulate
    from upnext.logs.simulation.world import SimulationConfig as SimulationConfig
    from upnext.pipeline.config import RunConfig as RunConfig
    from upnext.pipeline.evaluate import evaluate as evaluate
    from upnext.pipeline.extend import extend as extend
    from upnext.pipeline.prepare import prepare as prepare
    from upnext.pipeline.train import train as train
    from upnext.recommender import Recommender as Recommender
    from upnext.registry.moves import move_label as move_label
    from upnext.registry.moves import rollback as rollback
    from upnext.registry.release import list_releases as list_releases
    from upnext.registry.release import open_release as open_release
    from upnext.registry.storage.mirror import mirror as mirror
    from upnext.registry.storage.pull import pull as pull
    from upnext.registry.storage.push import push as push
    from upnext.schema import ItemRules as ItemRules
    from upnext.schema import PageOptions as PageOptions
    from upnext.schema import PastWatch as PastWatch
    from upnext.schema import RecommendationRequest as RecommendationRequest
    from upnext.schema import Recommendations as Recommendations

_HOMES = {
    # logs
    "SimulationConfig": "upnext.logs.simulation.world",
    "simulate": "upnext.logs.simulation.simulate",
    "load_public": "upnext.logs.public",
    "LogsConfig": "upnext.logs.read",
    "check_logs": "upnext.logs.read",
    "read_logs": "upnext.logs.read",
    "write_logs": "upnext.logs.read",
    # learning
    "RunConfig": "upnext.pipeline.config",
    "read_config": "upnext.config",
    "prepare": "upnext.pipeline.prepare",
    "train": "upnext.pipeline.train",
    "extend": "upnext.pipeline.extend",
    "evaluate": "upnext.pipeline.evaluate",
    "EvaluationReport": "upnext.evaluation.report",
    # releases
    "list_releases": "upnext.registry.release",
    "open_release": "upnext.registry.release",
    "move_label": "upnext.registry.moves",
    "rollback": "upnext.registry.moves",
    "push": "upnext.registry.storage.push",
    "pull": "upnext.registry.storage.pull",
    "mirror": "upnext.registry.storage.mirror",
    # recommending
    "Recommender": "upnext.recommender",
    "RecommendationRequest": "upnext.schema",
    "PastWatch": "upnext.schema",
    "PageOptions": "upnext.schema",
    "ItemRules": "upnext.schema",
    "Recommendations": "upnext.schema",
    # export
    "class_probabilities": "upnext.export.probabilities",
    "export_projector": "upnext.export.projector",
    "export_vectors": "upnext.export.vectors",
    # errors
    "UpnextError": "upnext.errors",
    "DataError": "upnext.errors",
    "ConfigError": "upnext.errors",
    "ReleaseError": "upnext.errors",
    "RequestError": "upnext.errors",
}

__all__ = list(_HOMES)

if not TYPE_CHECKING:  # a type checker reads the imports above, and reports any other name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
