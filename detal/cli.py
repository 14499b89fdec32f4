"""The command line. Heavy imports happen inside the verbs, so that ``--help`` answers at once."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from detal.errors import ConfigError, DetalError, machine_fault, unknown_name
from detal.interrupts import INTERRUPTED, interruptible
from detal.printing import (
    print_merge,
    print_problems,
    print_result,
    print_scored,
    print_summary,
    print_tables,
    print_trust,
)

if TYPE_CHECKING:
    from rich.progress import Task

    from detal.config import DatasetConfig
    from detal.review import Session
    from detal.runs.workers import RunTasks

__all__ = ["main"]

app = typer.Typer(
    name="detal",
    help="Active learning for object detection: which images should we label next?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_errors = Console(stderr=True)
_debug = False

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file; see configs/ for examples.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override any config key.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command(
    epilog="Examples: detal select -c configs/sandbox.yaml output=runs/a   |   "
    "detal select pool=frames/ labeled=data.yaml detector=best.pt budget=200 output=runs/b   |   "
    "detal select -c run.yaml strategy=core_set budget.unit=boxes budget.amount=1e3"
)
def select(
    overrides: Overrides = None,
    config: ConfigOption = None,
    engine: Annotated[
        str,
        typer.Option(
            help="With partitions=N: parts run in processes of this machine (local) or as Ray "
            "tasks (ray)."
        ),
    ] = "local",
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Choose the next batch of images to label and write its manifest."""
    _set_up(debug=debug)
    _check_engine(engine, ("local", "ray"))
    from detal.config import SelectConfig, load_config

    resolved = load_config(SelectConfig, config, overrides or [])
    from detal.runs.select import run_select

    with _progress() as progress:
        result = run_select(resolved, runner=_tasks_on(engine, "cpu"), progress=progress)
    if as_json:
        typer.echo(json.dumps(result.run, ensure_ascii=False, indent=1, default=str))
    else:
        print_result(result)


EngineOption = Annotated[
    str,
    typer.Option(
        help="local: this process; slice: the part of it that torchrun or SLURM gives this "
        "process; ray: a Ray cluster, RAY_ADDRESS or this machine."
    ),
]
ActorsOption = Annotated[
    int | None, typer.Option(min=1, help="Ray: processes with a detector; as many as fit.")
]
ActorCpusOption = Annotated[
    int | None, typer.Option(min=1, help="Ray: CPU threads of each; by default up to 8.")
]
ActorGpusOption = Annotated[
    float | None, typer.Option(min=0, help="Ray: GPUs of each; by default one if there are any.")
]


@app.command(
    epilog="Examples: detal score -c run.yaml   |   torchrun --standalone --nproc-per-node=4 "
    "-m detal score -c run.yaml --engine slice   |   detal score -c run.yaml --engine ray   "
    "(the same command, or another engine, goes on with what is missing)"
)
def score(
    overrides: Overrides = None,
    config: ConfigOption = None,
    engine: EngineOption = "local",
    actors: ActorsOption = None,
    actor_cpus: ActorCpusOption = None,
    actor_gpus: ActorGpusOption = None,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the detector over all images of a run of detal select; nothing is selected."""
    _set_up(debug=debug)
    _check_engine(engine, ("local", "slice", "ray"))
    from detal.config import SelectConfig, load_config

    resolved = load_config(SelectConfig, config, overrides or [])
    with ExitStack() as stack:
        if engine == "ray":
            from detal.runs.ray_engine import RayOptions, ray_scoring

            options = RayOptions(actors=actors, cpus=actor_cpus, gpus=actor_gpus)
            runner = stack.enter_context(ray_scoring(options))
        else:
            from detal.runs.slices import WHOLE, slice_of

            part = slice_of(os.environ) if engine == "slice" else WHOLE
            from detal.runs.score import in_this_process

            runner = partial(in_this_process, part=part)
        from detal.runs.score import run_score

        progress = stack.enter_context(_progress())
        outcomes = run_score(resolved, runner=runner, progress=progress)
    print_scored(outcomes, as_json=as_json)


def _tasks_on(engine: str, device: str) -> AbstractContextManager[RunTasks] | None:
    """What runs tasks on Ray; None: whatever the verb runs them with by itself."""
    if engine != "ray":
        return None
    from detal.runs.ray_engine import ray_tasks

    return ray_tasks(device=device)


def _check_engine(engine: str, valid: Sequence[str]) -> None:
    if engine not in valid:
        raise ConfigError(unknown_name("engine", engine, valid))


@app.command(epilog="Example: detal sandbox data/big --images 20000 --workers 8")
def sandbox(
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    images: Annotated[int, typer.Option(help="Images of all splits together.")] = 660,
    image_size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Seed of the recipe.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    *,
    debug: DebugOption = False,
) -> None:
    """Generate a long-tailed detection set of handwritten digits."""
    _set_up(debug=debug)
    from detal.sandbox import make_sandbox

    with _progress() as progress:
        made = make_sandbox(
            output,
            images=images,
            image_size=image_size,
            seed=seed,
            workers=workers,
            progress=progress("generating images"),
        )
    typer.echo(f"sandbox: {output}" + ("" if made.created else " (already there, unchanged)"))


@app.command(epilog="Example: detal check data.yaml --split train   |   detal check VOC2007/")
def check(
    path: Annotated[
        str, typer.Argument(help="COCO or Label Studio JSON, CVAT XML, data.yaml, VOC, folder.")
    ],
    dataset_format: Annotated[str, typer.Option("--format", help="auto, coco, voc, …")] = "auto",
    images: Annotated[Path | None, typer.Option(help="Image root, if not found by itself.")] = None,
    split: Annotated[str | None, typer.Option(help="Split inside the dataset.")] = None,
    metadata: Annotated[Path | None, typer.Option(help="CSV joined on id or file name.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write all problems to this CSV.")] = None,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read a dataset and report everything that is wrong with it; exit 1 if there are errors."""
    _set_up(debug=debug)
    from detal.datasets import check_dataset, open_dataset, problems_table

    dataset = open_dataset(
        Path(path), format=dataset_format, images_root=images, split=split, metadata=metadata
    )
    with _progress() as progress:
        report = progress("checking images")
        problems = check_dataset(dataset, progress=lambda done: report(done, len(dataset)))
    table = problems_table(problems)
    if output is not None:
        table.write_csv(output)
    boxes = None if dataset.annotations is None else len(dataset.annotations.boxes)
    if as_json:
        summary = {"images": len(dataset), "boxes": boxes, "problems": table.to_dicts()}
        typer.echo(json.dumps(summary, ensure_ascii=False, indent=1))
    else:
        print_problems(dataset.name, len(dataset), boxes, table.to_dicts(), output)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


@app.command(
    epilog="Examples: detal simulate -c configs/bench/sandbox_quick.yaml output=runs/quick   |   "
    "detal simulate -c study.yaml seeds=[0,1,2] workers=4   (the same command goes on with a "
    "study that was stopped)"
)
def simulate(
    overrides: Overrides = None,
    config: ConfigOption = None,
    engine: Annotated[
        str, typer.Option(help="Arms run in processes of this machine (local) or as Ray tasks.")
    ] = "local",
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare strategies on a labelled dataset: strategies x seeds x rounds, with curves."""
    _set_up(debug=debug)
    _check_engine(engine, ("local", "ray"))
    from detal.config import SimulateConfig, load_config

    resolved = load_config(SimulateConfig, config, overrides or [])
    from detal.loop.simulate import run_simulation

    with _progress("rounds") as progress:
        summary = run_simulation(
            resolved,
            runner=_tasks_on(engine, resolved.device),
            progress=progress("training and measuring"),
        )
    print_summary(summary, Path(resolved.output), as_json=as_json)


StopUnder = Annotated[
    float | None,
    typer.Option(help="Stop where the next 100 boxes add fewer points of mAP (0..100) than this."),
]


@app.command(epilog="Example: detal curves runs/quick --output figures/ --stop-under 0.2")
def curves(
    study: Annotated[Path, typer.Argument(help="Folder of a study, finished or not.")],
    output: Annotated[Path | None, typer.Option(help="Where the files go.")] = None,
    stop_under: StopUnder = None,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn a study's folder into tables (JSON, Markdown, CSV) and plots (PNG, SVG)."""
    _set_up(debug=debug)
    from detal.loop.curves import StopRule
    from detal.loop.summary import write_summary

    stop = None if stop_under is None else StopRule(under=stop_under)
    summary = write_summary(study, output, stop=stop)
    print_summary(summary, output or study, as_json=as_json)


@app.command(epilog="Example: detal advise curve.csv --stop-under 0.2")
def advise(
    curve: Annotated[
        Path, typer.Argument(help="CSV of your own rounds, columns boxes and mean_ap (0..1).")
    ],
    stop_under: StopUnder = None,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell what the next 100 boxes would add to the mAP, and whether to stop labelling."""
    _set_up(debug=debug)
    from detal.loop.advice import read_curve, stopping_advice
    from detal.loop.curves import StopRule

    stop = None if stop_under is None else StopRule(under=stop_under)
    advice = stopping_advice(read_curve(curve), stop)
    typer.echo(json.dumps(advice.to_dict(), indent=1) if as_json else str(advice))


@app.command(
    epilog="Examples: detal merge runs/a annotated/data.yaml --into labeled   |   "
    "detal merge runs/a export.json --into labeled --holdout test.json   |   "
    "detal merge runs/a project-1.json --into labeled   (Label Studio)   |   "
    "detal merge runs/a xml/ --into labeled --labeled data.yaml --labeled-split train"
)
def merge(
    run: Annotated[Path, typer.Argument(help="Folder that detal select wrote.")],
    annotations: Annotated[Path, typer.Argument(help="What came back, in any --format.")],
    into: Annotated[Path, typer.Option(help="Labelled set that grows; a folder of detal's own.")],
    labeled: Annotated[
        Path | None,
        typer.Option(help="What the first merge starts from; by default the run's labelled set."),
    ] = None,
    labeled_split: Annotated[str | None, typer.Option(help="Split of --labeled.")] = None,
    holdout: Annotated[
        list[Path] | None, typer.Option(help="Dataset or image folder to refuse images of.")
    ] = None,
    holdout_split: Annotated[str | None, typer.Option(help="Split of each --holdout.")] = None,
    val: Annotated[
        Path | None, typer.Option(help="Dataset that data.yaml validates on; refused, too.")
    ] = None,
    val_split: Annotated[str | None, typer.Option(help="Split of --val.")] = None,
    dataset_format: Annotated[
        str, typer.Option("--format", help="auto, coco, yolo, voc, label_studio, cvat")
    ] = "auto",
    images: Annotated[Path | None, typer.Option(help="Image root of the annotations.")] = None,
    several: Annotated[
        str,
        typer.Option(help="Of several annotations of an image the newest counts, or: refuse."),
    ] = "newest",
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Join annotated images with the labelled set, checked against what the run asked for."""
    _set_up(debug=debug)
    if several not in {"newest", "refuse"}:
        raise ConfigError(unknown_name("value of --several", several, ("newest", "refuse")))
    from detal.loop.merge import merge as run_merge

    report = run_merge(
        run,
        _dataset(annotations, dataset_format=dataset_format, images=images),
        into=into,
        labeled=None if labeled is None else _dataset(labeled, split=labeled_split),
        holdout=[_dataset(path, split=holdout_split) for path in holdout or []],
        val=None if val is None else _dataset(val, split=val_split),
        several="refuse" if several == "refuse" else "newest",
    )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False, indent=1))
    else:
        print_merge(report, into)


ImagePrefixOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER=PREFIX",
        help="What stands for a local folder in the tool, for example /data=s3://bucket/data, "
        "/data=https://host/data, /data=file:///data or /data=/data/local-files/?d=",
    ),
]


@app.command(
    epilog="Examples: detal export runs/a --to cvat,voc --link   |   detal export runs/a "
    "--to label-studio --image-prefix /data=/data/local-files/?d= --output handover"
)
def export(
    run: Annotated[Path, typer.Argument(help="Folder that detal select wrote.")],
    to: Annotated[
        str, typer.Option(help="coco, csv, yolo, label-studio, cvat, voc, fiftyone; with commas.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; RUN-export by default.")
    ] = None,
    image_prefix: ImagePrefixOption = None,
    *,
    link: Annotated[bool, typer.Option("--link", help="Link the images into images/.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images into images/.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a finished batch for labelling tools; nothing is selected again."""
    _set_up(debug=debug)
    if link and copy:
        raise ConfigError("images can be linked or copied: give --link or --copy, not both")
    from detal.manifests import HandOver, ImagePrefix, parse_formats
    from detal.runs.export import export_run

    hand_over = HandOver(
        formats=parse_formats(to.split(",")),
        mode="link" if link else "copy" if copy else "reference",
        prefix=None if image_prefix is None else ImagePrefix.parse(image_prefix),
    )
    folder = export_run(run, hand_over, output=output)
    if as_json:
        result = {"output": str(folder), "formats": hand_over.formats}
        typer.echo(json.dumps(result, ensure_ascii=False, indent=1))
    else:
        typer.echo(f"exported: {folder} ({', '.join(hand_over.formats)})")


push = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(push, name="push", help="Put a finished batch into a running labelling tool.")


@push.command(
    "label-studio",
    epilog="Example: detal push label-studio runs/a --url http://127.0.0.1:8080 --project round-1 "
    "--document-root /data   (the same command goes on where it was stopped, and imports no image "
    "twice)",
)
def push_label_studio(
    run: Annotated[Path, typer.Argument(help="Folder that detal select wrote.")],
    url: Annotated[str, typer.Option(help="Where the server is.", envvar="LABEL_STUDIO_URL")],
    project: Annotated[str, typer.Option(help="Title of the project; made if there is none.")],
    token: Annotated[
        str,
        typer.Option(help="Legacy or personal access token.", envvar="LABEL_STUDIO_API_KEY"),
    ] = "",
    document_root: Annotated[
        Path | None,
        typer.Option(
            help="The server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, if it reads files "
            "of this machine."
        ),
    ] = None,
    image_prefix: ImagePrefixOption = None,
    portion: Annotated[int, typer.Option(min=1, max=1000, help="Tasks per request.")] = 500,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a Label Studio project of a batch, with predictions and reasons."""
    _set_up(debug=debug)
    if (document_root is None) == (image_prefix is None):
        raise ConfigError(
            "Label Studio must be told where the images are: give --document-root or --image-prefix"
        )
    from detal.manifests import LOCAL_FILES, ImagePrefix
    from detal.runs.label_studio_api import LabelStudio
    from detal.runs.push import push_run

    root = "" if document_root is None else document_root.expanduser().absolute()
    prefix = image_prefix or f"{root}={LOCAL_FILES}"
    with _progress("tasks") as progress:
        pushed = push_run(
            run,
            LabelStudio(url, token),
            title=project,
            prefix=ImagePrefix.parse(prefix),
            portion=portion,
            progress=progress("importing"),
        )
    if as_json:
        typer.echo(json.dumps(asdict(pushed), ensure_ascii=False, indent=1))
    else:
        made = "made" if pushed.created else "there already"
        typer.echo(
            f"{pushed.imported} tasks imported, {pushed.there} there already; "
            f"project {project!r} {made}: {pushed.url}"
        )


@app.command(
    epilog="Examples: detal report runs/round1   |   detal report runs/study -o study.html"
)
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of detal select or detal simulate.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; report.html in the folder.")
    ] = None,
    *,
    debug: DebugOption = False,
) -> None:
    """Write one HTML file: the images and why, or a study's curves; it needs no network."""
    _set_up(debug=debug)
    from detal.loop.study_report import is_study, write_study_report
    from detal.runs.run_report import write_run_report

    if is_study(folder):
        path = write_study_report(folder, output)
    else:
        with _progress() as progress:
            path = write_run_report(folder, output, progress=progress)
    typer.echo(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")


@app.command(
    epilog="Examples: detal review runs/round1   |   detal review runs/round1 --export   "
    "(decisions are kept beside the run, the same command goes on)"
)
def review(
    run: Annotated[Path, typer.Argument(help="Folder that detal select wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the manifest goes; RUN-reviewed.")
    ] = None,
    port: Annotated[int, typer.Option(help="Of the page; 0: any that is free.")] = 0,
    *,
    export: Annotated[
        bool, typer.Option("--export", help="Serve nothing, write the manifest as decided.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
    debug: DebugOption = False,
) -> None:
    """Look through a batch on a local page: accept, reject, next best instead, then write it."""
    _set_up(debug=debug)
    from detal.review import open_session, write_reviewed
    from detal.review.export import reviewed_folder

    with open_session(run) as session:
        target = output or reviewed_folder(session.run.path)
        if export:
            batch = write_reviewed(session.run, session.decisions, target)
            typer.echo(f"manifest: {target} ({len(batch)} images)")
        else:
            _serve_review(session, target, port=port, open_browser=open_browser)


def _serve_review(session: Session, target: Path, *, port: int, open_browser: bool) -> None:
    """Serve until interrupted."""
    import webbrowser

    from detal.review import ReviewServer

    try:
        server = ReviewServer(session, port=port, output=target)
    except OSError as error:
        raise ConfigError(f"port {port} must be free: {error.strerror}") from None
    typer.echo(f"review: {server.url}")
    sys.stdout.flush()  # whoever reads through a pipe waits for the address
    _errors.print("every decision is saved at once; Ctrl-C ends the review", soft_wrap=True)
    if open_browser:
        webbrowser.open(server.url)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
    kept = len(session.decisions.kept)
    typer.echo(f"{kept} images are kept so far; the same command goes on, --export writes them")


tables = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tables, name="tables", help="Build and look at tables of what labels bring.")


@tables.command(
    "build",
    epilog="Example: detal tables build -c tables.yaml detector=best.pt output=tables/round-1   "
    "(the same command goes on with a build that was stopped)",
)
def tables_build(
    overrides: Overrides = None,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train variants of the detector: on parts of the labels, on groups of a pool; make tables."""
    _set_up(debug=debug)
    from detal.config import TablesConfig, load_config

    resolved = load_config(TablesConfig, config, overrides or [])
    from detal.runs.table_view import draw_tables
    from detal.runs.tables import build_table

    with _progress("variants") as progress:
        build_table(resolved, progress=progress)
    folder = Path(resolved.output)
    print_tables(folder, as_json=as_json, pictures=draw_tables(folder))


@tables.command("show", epilog="Example: detal tables show tables/round-1 --output curves.png")
def tables_show(
    folder: Annotated[Path, typer.Argument(help="Folder that detal tables build wrote.")],
    output: Annotated[
        Path | None, typer.Option(help="The PNG; curves.png, groups.png in the folder by default.")
    ] = None,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the curves with their points, where the labels stand now, and the gains of groups."""
    _set_up(debug=debug)
    from detal.runs.table_view import draw_tables

    print_tables(folder, as_json=as_json, pictures=draw_tables(folder, output))


trustset = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(trustset, name="trustset", help="Look at the labelled objects that teach most.")


@trustset.command(
    "show",
    epilog="Example: detal trustset show labeled=data.yaml detector=best.pt pool=frames/ "
    "table=tables/round1 output=runs/trust",
)
def trustset_show(
    overrides: Overrides = None,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Judge the labelled objects: which teach, which labels look wrong, what resembles them."""
    _set_up(debug=debug)
    from detal.config import TrustSetConfig, load_config

    resolved = load_config(TrustSetConfig, config, overrides or [])
    from detal.runs.trustset import show_trust_set

    with _progress() as progress:
        result = show_trust_set(resolved, progress=progress)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False, indent=1))
    else:
        print_trust(result, Path(resolved.output))


@app.command("show-config", epilog="Example: detal show-config -c configs/sandbox.yaml seed=3")
def show_config(
    overrides: Overrides = None, config: ConfigOption = None, *, debug: DebugOption = False
) -> None:
    """Print the resolved config: every default, every absolute path."""
    _set_up(debug=debug)
    from detal.config import SelectConfig, dump_config, load_config

    typer.echo(dump_config(load_config(SelectConfig, config, overrides or [])), nl=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0 ok, 1 failed, 2 wrong usage or config, 130 interrupted."""
    try:
        with interruptible():
            app(args=None if arguments is None else list(arguments), prog_name="detal")
    except DetalError as error:
        if _debug:
            raise
        _fail(str(error), code=2 if isinstance(error, ConfigError) else 1)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns an interrupt into exit code 130
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        _errors.print("interrupted; what is finished is kept, run the same command to go on")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); leave nothing for the interpreter to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        fault = machine_fault(error)
        if fault is None or _debug:
            raise
        _fail(f"{fault}; what is finished is kept, run the same command to go on", code=1)


def _fail(message: str, *, code: int) -> NoReturn:
    _errors.print(Text(f"error: {message}", style="red"), soft_wrap=True)
    sys.exit(code)


def _set_up(*, debug: bool) -> None:
    global _debug
    _debug = debug
    # Rich wraps lines at the width of the terminal; in a file or pipe they stay whole.
    rich = _errors.is_terminal
    logging.basicConfig(
        level=logging.INFO if debug else logging.WARNING,
        format="%(message)s" if rich else "%(levelname)s: %(message)s",
        handlers=[RichHandler(console=_errors, show_path=False, show_time=False)] if rich else None,
    )


def _dataset(
    path: Path,
    *,
    dataset_format: str = "auto",
    split: str | None = None,
    images: Path | None = None,
) -> DatasetConfig:
    """A dataset named on the command line, relative to the current folder."""
    from detal.config import DatasetConfig
    from detal.datasets import FORMATS

    if dataset_format not in FORMATS:
        raise ConfigError(unknown_name("dataset format", dataset_format, FORMATS))
    return DatasetConfig.model_validate(
        {
            "path": str(path.expanduser().absolute()),
            "format": dataset_format,
            "split": split,
            "images": None if images is None else str(images.expanduser().absolute()),
        }
    )


class _Rate(ProgressColumn):
    """What is done per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """The column's text for one task."""
        return Text("" if task.speed is None else f"{task.speed:.1f} {self._unit}/s")


@contextmanager
def _progress(unit: str = "images") -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """A factory of progress bars on stderr; silent where stderr is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_errors, disable=not _errors.is_terminal) as bars:

        def start(title: str) -> Callable[[int, int], None]:
            task = bars.add_task(title, total=None)

            def report(done: int, total: int) -> None:
                bars.update(task, completed=done, total=total)

            return report

        yield start
