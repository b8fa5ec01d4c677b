"""The command ``predict``: judge radiographs on this machine or on a Ray cluster."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.cli.console import echo_stderr, format_counts
from pneumoscope.cli.image_files import DICOM_KINDS, HEATMAP, leave_out_own_results
from pneumoscope.cli.options import (
    ACCESSION_NUMBER,
    ANY_AGE,
    MODEL,
    PATH_COLUMN,
    PREVALENCE,
    ROOT,
    THRESHOLD,
    open_predictor,
    requested_files,
    with_file_options,
    with_scope,
)
from pneumoscope.cli.paths import check_not_inputs, check_replaceable, make_folder, read_names
from pneumoscope.cli.progress import progress_bar
from pneumoscope.cli.screening import screen, show_sources
from pneumoscope.errors import UsageError
from pneumoscope.output import formats

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor
    from pneumoscope.radiographs.sources import Source

_RAY_FORMAT = "parquet"  # the only format that many machines write together


@with_file_options(before="resume")
@with_scope
def predict(
    paths: list[str] = typer.Argument(
        help="Files, folders, globs, addresses (s3://...), zip archives, lists (.csv, .tsv or .parquet with a "
        "column of names), or - for names on standard input.",
        metavar="PATH...",
    ),
    model: str = MODEL,
    threshold: str | None = THRESHOLD,
    prevalence: float | None = PREVALENCE,
    any_age: bool = ANY_AGE,
    accession_number: bool = ACCESSION_NUMBER,
    json_lines: bool = typer.Option(False, "--json", help="Print one JSON object a line instead of a table."),
    resume: bool = typer.Option(
        False, help="Continue these files: judge only the images that they do not contain yet."
    ),
    heatmaps: Path | None = typer.Option(
        None, help="Write a heatmap overlay of every judged image to this folder.", metavar="DIR"
    ),
    sr: Path | None = typer.Option(
        None,
        "--sr",
        help="Write a DICOM Structured Report of every DICOM image that can be read to this folder.",
        metavar="DIR",
    ),
    sc: Path | None = typer.Option(
        None, "--sc", help="Write the overlay of every judged DICOM image as a DICOM Secondary Capture.", metavar="DIR"
    ),
    pr: Path | None = typer.Option(
        None, "--pr", help="Write its outlines as a DICOM presentation state, if it is stored in gray.", metavar="DIR"
    ),
    html: Path | None = typer.Option(
        None, help="Write a contact sheet of the overlays (with --heatmaps).", metavar="FILE"
    ),
    engine: str = typer.Option(
        "local", help="local: this machine. ray: every core of a Ray cluster.", metavar="local|ray"
    ),
    address: str | None = typer.Option(
        None,
        help="Address of the Ray cluster, or auto. Without it, Ray starts on this machine only.",
        metavar="HOST:PORT",
    ),
    path_column: str | None = PATH_COLUMN,
    root: Path | None = ROOT,
    dry_run: bool = typer.Option(False, help="Only say what would be judged."),
    **files: Path | None,
) -> None:
    """Judge radiographs: table, JSON, CSV, Parquet, heatmaps, DICOM results.

    Exit code 0 if every image was judged, 1 if some were not, 2 for wrong usage.
    """
    requested = requested_files(files)
    parquet = files.get(_RAY_FORMAT)
    dicom_folders = {kind: path for kind, path in zip(DICOM_KINDS, (sr, sc, pr), strict=True) if path}
    local_only = {
        "--json": json_lines,
        **{f"--{each.option}": path for each, path in requested if each.option != _RAY_FORMAT},
        "--heatmaps": heatmaps,
        **{f"--{kind.lower()}": path for kind, path in dicom_folders.items()},
        "--html": html,
    }
    _check_engine(engine, address, parquet, [option for option, value in local_only.items() if value])
    if html and not heatmaps:
        raise UsageError("expected --heatmaps DIR with --html, whose page shows the heatmaps: add it")
    if resume and not requested:
        *first, last = (f"--{each.option}" for each in formats.FORMATS)
        raise UsageError(f"expected {', '.join(first)} or {last} with --resume, as the file to continue: add one")
    folders = ({HEATMAP: heatmaps} if heatmaps else {}) | dicom_folders
    if dicom_folders:
        import pneumoscope.pacs  # noqa: F401  # says at once what is not installed
    from pneumoscope.radiographs.sources import expand

    names = list(read_names(paths))
    skipped = [heatmaps] if heatmaps else []
    sources = list(expand(names, skip=skipped, note=echo_stderr, path_column=path_column, root=root))
    if dicom_folders:
        sources = leave_out_own_results(sources)
    if dry_run:
        show_sources(sources)
        raise typer.Exit
    if engine == "ray" and parquet:
        predictor = open_predictor(model, threshold, prevalence, any_age=any_age, accession_numbers=accession_number)
        complete = _predict_on_ray(predictor, sources, parquet, resume, address)
        raise typer.Exit(0 if complete else 1)
    check_not_inputs([*(path for _, path in requested), html], sources, names)
    for each, path in requested:
        if not resume and each.option != _RAY_FORMAT:  # a folder of parts is checked when it is opened
            check_replaceable(path, each.option)
    check_replaceable(html, "html")
    for folder in (*folders.values(), html.parent if html else None):
        make_folder(folder)
    # All cores work on a single image; of several images, each core judges one at a time.
    threads = 0 if len(sources) == 1 else 1
    predictor = open_predictor(model, threshold, prevalence, threads, any_age, accession_number)
    with contextlib.ExitStack() as opened:
        results_files = []
        for each, path in requested:
            results_files.append(each.open(path, predictor, resume))
            opened.callback(results_files[-1].release)
        for file in results_files:  # only once all of them can be used
            file.begin()
        complete = screen(predictor, sources, results_files, json_lines, folders, html)
    raise typer.Exit(0 if complete else 1)


def _check_engine(engine: str, address: str | None, parquet: Path | None, local_only: Sequence[str]) -> None:
    """Refuse options that have no effect with this engine.

    Args:
        engine: local or ray.
        address: of a Ray cluster.
        parquet: folder of the results.
        local_only: names of the given options that only the local engine knows.
    """
    if engine not in ("local", "ray"):
        raise UsageError(f"expected --engine local or ray, received {engine}")
    if engine == "local" and address:
        raise UsageError("expected --engine ray for --address, received --engine local: leave one of them out")
    if engine == "ray" and local_only:
        raise UsageError(
            f"expected --engine local for {', '.join(local_only)}, received --engine ray: leave one of them out"
        )
    if engine == "ray" and not parquet:
        raise UsageError("expected --parquet DIR with --engine ray, for its results: add it")


def _predict_on_ray(
    predictor: "Predictor", sources: "Sequence[Source]", folder: Path, resume: bool, address: str | None
) -> bool:
    """Judge on a Ray cluster and print a line for each finished part; returns whether all images were judged."""
    from pneumoscope.cluster.cluster_run import ClusterRun
    from pneumoscope.inference.prediction import OK, UNCERTAIN

    with ClusterRun(predictor, sources, folder, resume) as run, progress_bar() as show_progress:
        if len(run.missing) < run.parts:
            echo_stderr(f"{run.parts - len(run.missing)} of {run.parts} parts are already done")
        for part in show_progress(run.score(address), len(run.missing), "parts"):
            print(f"{part.name}  {format_counts(part.statuses)}", flush=True)
        print(f"{format_counts(run.statuses)}. {RESEARCH_USE_ONLY}")
        return sum(run.statuses.values()) == run.statuses[OK] + run.statuses[UNCERTAIN]
