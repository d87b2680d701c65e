"""The command line: each verb is the twin of a public function.

Results go to stdout, everything else to stderr. Exit status: 0 done, 1 the data or release is bad,
2 wrong usage. Rooms are imported by the verbs that need them, so that what serves loads no torch.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.progress import Progress

from upnext.cli.console import console
from upnext.cli.crew import NumWorkers, RayAddress, crew_of, evaluate_with, workers_of
from upnext.cli.events import collect
from upnext.cli.export import exports
from upnext.cli.recommend import recommend
from upnext.cli.releases import label, load, releases, rollback, unload
from upnext.cli.report import report, write_page
from upnext.cli.serve import serve, traffic
from upnext.cli.storage import pull, push
from upnext.cli.terminal import (
    AsJson,
    ConfigFile,
    LogsDirectory,
    ProgressLine,
    Registry,
    ReleaseName,
    next_step,
    print_result,
    say,
    stderr,
    version_of,
)
from upnext.config import read_config
from upnext.errors import ConfigError, RequestError, UpnextError

app = typer.Typer(
    help="Watch logs in, a served two-stage recommender out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(exports, name="export")

TRAINING_LIBRARIES = {"onnx", "onnxscript", "torch"}
"""What `pip install upnext` leaves out, as those who only serve need none of it."""


def main() -> None:
    """Runs the command line; an error is told in a few lines, without a trace."""
    # Threads that spin while they wait take the core from those that work; read at torch's import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UpnextError as error:
        stderr.print(str(error), style="red")
        sys.exit(2 if isinstance(error, (ConfigError, RequestError)) else 1)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in TRAINING_LIBRARIES:
            raise
        stderr.print(f"{name} is missing: pip install 'upnext[train]'", style="red")
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        stderr.print(f"{error.filename}: {error.strerror}", style="red")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def simulate(
    logs: LogsDirectory,
    config: Annotated[
        Path | None, typer.Option(metavar="WORLD.TOML", help="The size and rules of the world.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another world, equally reproducible.")] = None,
) -> None:
    """Write the logs of a made-up platform whose true watch times are known."""
    from dataclasses import replace

    from upnext.logs.simulation.simulate import simulate as simulate_
    from upnext.logs.simulation.world import SimulationConfig

    settings = read_config(config, SimulationConfig) if config else SimulationConfig()
    settings = settings if seed is None else replace(settings, seed=seed)
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("simulating days", total=settings.num_days)
        simulate_(settings, logs, progress=lambda done, _: progress.update(task, completed=done))
    stderr.print(f"simulated {settings.num_days} days into {logs}")


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which public data set; see below.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The unpacked official download.")],
    logs: LogsDirectory,
) -> None:
    """Turn an official download into logs.

    NAME: movielens-100k, movielens-1m, kuairand, kuairec, eb-nerd, globo, amazon-sequences.
    """
    from upnext.logs.public import PublicName, load_public
    from upnext.logs.read import write_logs

    if name not in get_args(PublicName):
        known = ", ".join(get_args(PublicName))
        raise ConfigError("NAME", expected=f"one of {known}", got=repr(name))
    loaded = load_public(name, path)  # type: ignore[arg-type]
    write_logs(loaded, logs)
    stderr.print(f"imported {loaded.watches.frame.height:,} watches into {logs}")
    next_step("check", logs)


@app.command()
def check(logs: LogsDirectory, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Read logs, set bad rows apart and tell how many and why."""
    from upnext.logs.formats import QUARANTINE
    from upnext.logs.read import LogsConfig, check_logs

    report = check_logs(logs, _logs_config(config) if config else LogsConfig())
    print_result(report.to_dict() if as_json else report.to_text())
    if any(table.quarantined for table in report.tables.values()):
        say(f"quarantined rows, with reasons: {logs / QUARANTINE}")
    next_step("train", logs, "REGISTRY", *(("--config", config) if config else ()))


@app.command()
def prepare(
    logs: LogsDirectory,
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED", help="A new directory.")],
    config: ConfigFile = None,
    ray: RayAddress = None,
    workers: NumWorkers = "1",
) -> None:
    """Sort logs that are too large for memory; `train` takes PREPARED in place of LOGS."""
    from upnext.logs.read import LogsConfig

    how = _logs_config(config) if config else LogsConfig()
    with workers_of(ray, workers) as num_workers:
        if num_workers is None:
            from upnext.pipeline.prepare import prepare as prepare_

            prepare_(logs, prepared, how, say=say)
        else:
            from upnext.cluster.preparing import prepare_on_ray

            prepare_on_ray(logs, prepared, how, num_workers=num_workers, say=say)
    stderr.print(f"prepared {prepared}")
    next_step("train", prepared, "REGISTRY", *(("--config", config) if config else ()))


@app.command()
def train(
    logs: LogsDirectory,
    registry: Registry,
    config: ConfigFile = None,
    protocol: Annotated[
        str | None, typer.Option(help="`time` or `last-event`: what is held out; over the config.")
    ] = None,
    ray: RayAddress = None,
    workers: NumWorkers = "1",
    gpus: Annotated[bool, typer.Option("--gpus", help="Give each worker on Ray a GPU.")] = False,
    shard_above: Annotated[
        int | None,
        typer.Option(metavar="ROWS", help="On Ray, deal larger tables out over the workers."),
    ] = None,
) -> None:
    """Train both stages and publish a release; prints its version."""
    from dataclasses import replace

    from upnext.config import config_from_table
    from upnext.pipeline.config import RunConfig, SplitConfig
    from upnext.pipeline.train import train as train_

    run = read_config(config, RunConfig) if config else RunConfig()
    if protocol is not None:
        split = config_from_table({"protocol": protocol}, SplitConfig, where="--protocol")
        run = replace(run, split=replace(run.split, protocol=split.protocol))
    line = ProgressLine()
    with crew_of(ray, workers, use_gpu=gpus, shard_above_rows=shard_above) as crew:
        release = train_(
            logs,
            registry,
            run,
            say=say,
            on_progress=lambda stage: line.tell(stage.to_text()),
            crew=crew,
        )
    print_result(str(release.version))
    next_step("evaluate", logs, registry)


@app.command()
def extend(
    registry: Registry,
    release: Annotated[
        str, typer.Argument(metavar="VERSION", help="A version, a label, or `latest`.")
    ],
    items: Annotated[
        Path, typer.Argument(metavar="ITEMS.PARQUET", help="A table of items; CSV, JSONL as well.")
    ],
) -> None:
    """Publish a release that knows new items too, without training; prints its version."""
    from upnext.pipeline.extend import extend as extend_

    version = version_of(registry, release)
    print_result(str(extend_(registry, version, items, say=say).version))


@app.command()
def evaluate(
    logs: LogsDirectory,
    registry: Registry,
    release: ReleaseName = "latest",
    ray: RayAddress = None,
    workers: NumWorkers = "1",
    as_json: AsJson = False,
) -> None:
    """Measure a release beside baselines on what its training held out."""
    from upnext.evaluation.report import write_report
    from upnext.pipeline.evaluate import evaluate as evaluate_

    version = version_of(registry, release)
    found = evaluate_with(ray, workers, evaluate_, logs, registry, version, say=say)
    write_report(found, registry / "evaluations" / str(version))
    print_result(found.to_table() if as_json else found.to_text())
    stderr.print(f"written with pictures to {write_page(registry, version)}")
    next_step("label", registry, "stable", version)


app.command()(report)
app.command()(recommend)
app.command()(collect)


for verb in (serve, console, traffic, releases, load, label, rollback, unload, push, pull):
    app.command()(verb)


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where all of it goes.")],
    once: Annotated[bool, typer.Option(help="End after the first answer.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to serve on.")] = 8080,
) -> None:
    """Show the whole way on a simulated platform, then serve it until Ctrl-C."""
    from upnext.demo import run_demo

    run_demo(directory, once=once, port=port, say=say)


def _logs_config(path: Path) -> Any:
    """Only the [logs] section, so that a check needs nothing of training installed."""
    from upnext.config import config_from_table, read_toml
    from upnext.logs.read import LogsConfig

    return config_from_table(read_toml(path).get("logs", {}), LogsConfig, where=f"{path} [logs]")
