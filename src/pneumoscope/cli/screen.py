"""Commands that judge radiographs: predict, explain, demo, models."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.cli import app
from pneumoscope.cli.options import MODEL, PREVALENCE, THRESHOLD, open_predictor
from pneumoscope.cli.output import (
    JsonLines,
    Table,
    echo_stderr,
    format_counts,
    print_table,
    printable,
    progress_bar,
    quiet_stderr,
)
from pneumoscope.errors import ImageError, UsageError

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Prediction, Predictor
    from pneumoscope.output.results import ResultsFile


@app.command()
def predict(
    paths: list[str] = typer.Argument(
        help="Files, folders, globs, addresses (s3://...), lists (.csv or .parquet with a column path), or - for names "
        "on standard input.",
        metavar="PATH...",
    ),
    model: str = MODEL,
    threshold: str = THRESHOLD,
    prevalence: float = PREVALENCE,
    json_lines: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
    csv: Path = typer.Option(None, help="Also write the results to this CSV file.", metavar="FILE"),
    jsonl: Path = typer.Option(None, help="Also write them to this file of JSON lines.", metavar="FILE"),
    parquet: Path = typer.Option(None, help="Also write them to this folder, as Parquet parts.", metavar="DIR"),
    resume: bool = typer.Option(False, help="Judge only what these files do not hold yet, and go on with them."),
    heatmaps: Path = typer.Option(None, help="Write a heatmap overlay of every judged image here.", metavar="DIR"),
    html: Path = typer.Option(None, help="Write a contact sheet of the overlays (with --heatmaps).", metavar="FILE"),
    engine: str = typer.Option("local", help="ray: judge on every core of a Ray cluster.", metavar="local|ray"),
    address: str = typer.Option(
        None, help="Its address, or auto; without it Ray starts on this machine alone.", metavar="HOST:PORT"
    ),
) -> None:
    """Judge radiographs: table, JSON, CSV, Parquet, heatmaps.

    Exit code 0 when every image was judged, 1 when some were not, 2 for wrong usage.
    """
    _check_engine(
        engine,
        parquet,
        {"--address": address},
        {"--json": json_lines, "--csv": csv, "--jsonl": jsonl, "--heatmaps": heatmaps, "--html": html},
    )
    if html and not heatmaps:
        raise UsageError("expected --heatmaps DIR beside --html, so that the sheet has pictures to show: add it")
    if resume and not (csv or jsonl or parquet):
        raise UsageError("expected --csv, --jsonl or --parquet beside --resume, to know what is judged already: add it")
    from pneumoscope.output.results import CsvFile, JsonLinesFile, ParquetParts
    from pneumoscope.radiographs.sources import expand

    sources = list(expand(_arguments(paths), skip=heatmaps, note=echo_stderr))
    if engine == "ray":
        raise typer.Exit(
            0 if _scale(open_predictor(model, threshold, prevalence), sources, parquet, resume, address) else 1
        )
    _keep_inputs(sources, [csv, jsonl, html])
    for folder in (heatmaps, html.parent if html else None):
        _make_folder(folder)
    # One image is judged by all cores; of several, each core judges its own.
    predictor = open_predictor(model, threshold, prevalence, threads=0 if len(sources) == 1 else 1)
    kinds = ((CsvFile, csv), (JsonLinesFile, jsonl), (ParquetParts, parquet))
    with contextlib.ExitStack() as opened:
        files = []
        for kind, path in kinds:
            if path:
                files.append(kind(path, predictor, resume))
                opened.callback(files[-1].release)
        for file in files:  # once all are known to be of use
            file.begin()
        everything_judged = _screen(predictor, sources, files, json_lines, heatmaps, html)
    raise typer.Exit(0 if everything_judged else 1)


@app.command()
def explain(
    images: list[str] = typer.Argument(help="One or more radiographs.", metavar="IMAGE..."),
    out: Path = typer.Option(
        ..., help="Overlay file (.png or .jpg) for one image; a folder for several.", metavar="FILE|DIR"
    ),
    label: str = typer.Option(None, "--class", help="NORMAL or PNEUMONIA; the predicted one by default."),
    model: str = MODEL,
    threshold: str = THRESHOLD,
    prevalence: float = PREVALENCE,
) -> None:
    """Draw where the model looked.

    Grad-CAM, or occlusion sensitivity for models without a feature map.
    """
    from pneumoscope.inference.explain import explain as explain_one
    from pneumoscope.inference.explain import write_overlay
    from pneumoscope.radiographs.sources import NothingFound, expand

    sources = list(expand(_arguments(images), note=echo_stderr))
    _keep_inputs(sources, [out])
    one_file = out.suffix.lower() in (".png", ".jpg", ".jpeg")
    if one_file and len(sources) > 1:
        raise UsageError(
            f"expected a folder for --out with {len(sources)} images, received the file {out}: name a folder"
        )
    if not one_file and out.suffix and not out.is_dir():
        raise UsageError(f"expected --out ending in .png or .jpg, or a folder, received {out}")
    predictor, names, failed = open_predictor(model, threshold, prevalence), UniqueNames(out), 0
    for source in sources:
        try:
            if isinstance(source, NothingFound):
                raise source
            explanation = explain_one(predictor, source, label)
        except ImageError as error:
            failed += 1
            echo_stderr(f"{getattr(error, 'path', source)}: {error}")
            continue
        path = write_overlay(explanation, out if one_file else names.assign(source, sources))
        echo_stderr(
            f"{path}: {explanation.method} for {explanation.label}, pneumonia {explanation.prediction.probability:.3f}"
        )
        if not explanation.heatmap.any():
            echo_stderr(f"{path}: nothing in this image speaks for {explanation.label}, the heatmap is empty")
    raise typer.Exit(1 if failed else 0)


@app.command()
def demo(
    out: Path = typer.Option(Path("demo"), help="Where the overlays and the page go.", metavar="DIR"),
    model: str = MODEL,
) -> None:
    """Screen the bundled radiographs, with a page.

    Writes overlays, a CSV and an HTML contact sheet.
    """
    from pneumoscope.inference.predict import load
    from pneumoscope.output.results import CsvFile
    from pneumoscope.samples import sample_paths

    page, predictor = out / "index.html", load(model)
    table = CsvFile(out / "predictions.csv", predictor, resume=False)
    table.begin()
    everything_judged = _screen(predictor, sample_paths(), [table], False, out / "heatmaps", page)
    print(f"Contact sheet: {page.absolute()}")
    print(f"Heatmaps:      {(out / 'heatmaps').absolute()}")
    raise typer.Exit(0 if everything_judged else 1)


@app.command()
def models() -> None:
    """List the models that ship, with their figures."""
    from pneumoscope.inference.bundle import open_bundle, shipped_models

    rows = [("model", "input", "AUC", "accuracy", "sensitivity", "specificity", "threshold")]
    for name in shipped_models():
        bundle = open_bundle(name)
        metrics = bundle.contract.get("metrics", {})
        figures = [f"{metrics[key]['value']:.3f}" for key in ("roc_auc", "accuracy", "sensitivity", "specificity")]
        rows.append((name, "x".join(map(str, bundle.spec.shape)), *figures, f"{bundle.threshold:.3f}"))
    print_table("Shipped models, measured on held-out patients of the training data (not the official test):", rows)


def _arguments(paths: list[str]) -> Iterator[str]:
    """The arguments, with ``-`` replaced by the lines of standard input."""
    for path in paths:
        if path == "-":
            stream = getattr(sys.stdin, "buffer", sys.stdin) or ()  # closed: None
            lines = (os.fsdecode(line) for line in stream)  # names are bytes, whatever the terminal's encoding
            names = [line.rstrip("\r\n") for line in lines if line.strip()]
            if not names:
                raise UsageError("expected file names on standard input, a line each, received none")
            yield from names
        else:
            yield path


def _screen(
    predictor: "Predictor",
    sources: list,
    files: "list[ResultsFile]",
    json_lines: bool,
    heatmaps: Path | None,
    html: Path | None,
) -> bool:
    """Judge every source that no file holds and hand each result to every output; returns whether all were judged."""
    from pneumoscope.output.results import find_finished

    outputs: list = list(files)
    console = None
    if json_lines:
        outputs.append(JsonLines())
    else:
        from rich.console import Console

        console = Console()
        outputs.append(Table(console))
    names, cards, all_judged = UniqueNames(heatmaps or Path()), [], True
    bar_console = console if console is not None and console.is_terminal else None
    try:
        before = find_finished(files, sources)
        held = len(before) - before.count(None)
        if held:
            echo_stderr(f"{held} of {len(before)} images are judged already")
        fresh = predictor.predict_many(source for source, done in zip(sources, before, strict=True) if done is None)

        def judged() -> Iterator[tuple]:
            for source, done in zip(sources, before, strict=True):
                prediction = done or next(fresh)
                path = names.assign(source, sources) if heatmaps and prediction.judged else None
                yield source, prediction, path, done is not None

        with progress_bar(bar_console) as show, contextlib.closing(_drawn(predictor, judged(), heatmaps)) as drawn:
            for prediction, overlay in show(drawn, len(sources), "screening"):
                for output in outputs:
                    output.write(prediction)
                if html:
                    cards.append((prediction, overlay))
                all_judged = all_judged and prediction.judged and (overlay is not None or not heatmaps)
    finally:
        for output in outputs:
            output.close()
        if html:
            from pneumoscope.output.contact_sheet import write_contact_sheet

            write_contact_sheet(cards, html)
    return all_judged


def _check_engine(engine: str, parquet: Path | None, for_ray: dict, for_local: dict) -> None:
    """Refuse options that the engine has no use for."""
    if engine not in ("local", "ray"):
        raise UsageError(f"expected --engine local or ray, received {engine}")
    given = [name for name, value in (for_local if engine == "ray" else for_ray).items() if value]
    if given:
        other = "--engine local" if engine == "ray" else "--engine ray"
        raise UsageError(f"expected {other} for {', '.join(given)}, received --engine {engine}: leave one of them out")
    if engine == "ray" and not parquet:
        raise UsageError("expected --parquet DIR beside --engine ray, for its results: add it")


def _scale(predictor: "Predictor", sources: list, folder: Path, resume: bool, address: str | None) -> bool:
    """Judge on a Ray cluster, a line for each part; returns whether all were judged."""
    from pneumoscope.cluster.cluster_run import ClusterRun
    from pneumoscope.inference.predict import OK, UNCERTAIN

    with quiet_stderr(), ClusterRun(predictor, sources, folder, resume) as run, progress_bar() as show:
        if len(run.missing) < run.parts:
            echo_stderr(f"{run.parts - len(run.missing)} of {run.parts} parts are judged already")
        for part in show(run.score(address), len(run.missing), "parts"):
            print(f"{part.name}  {format_counts(part.statuses)}", flush=True)
        print(f"{format_counts(run.statuses)}. {RESEARCH_USE_ONLY}")
        return sum(run.statuses.values()) == run.statuses[OK] + run.statuses[UNCERTAIN]


def _drawn(predictor: "Predictor", judged: Iterator[tuple], heatmaps: Path | None) -> Iterator[tuple]:
    """Predictions, in order, each with the path of its overlay; the cores draw some ahead."""

    def draw(one: tuple) -> "tuple[Prediction, Path | None]":
        source, prediction, path, is_held = one
        return prediction, None if path is None else _overlay(predictor, source, prediction, path, is_held)

    if heatmaps is None:
        yield from map(draw, judged)
        return
    from concurrent.futures import ThreadPoolExecutor

    from pneumoscope.io.prefetch import ordered_prefetch

    workers = min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers)
    try:
        yield from ordered_prefetch(pool, draw, judged, ahead=workers + 1)
    finally:
        pool.shutdown(cancel_futures=True)


def _overlay(predictor: "Predictor", source: Path, prediction: "Prediction", path: Path, is_held: bool) -> Path | None:
    """The overlay of a judged image: drawn, or there from the call that judged it."""
    from pneumoscope.inference.explain import is_overlay_of

    if is_held and is_overlay_of(path, prediction):
        return path
    return _write_heatmap(predictor, source, predictor.predict(source) if is_held else prediction, path)


def _write_heatmap(predictor: "Predictor", source: Path, prediction: "Prediction", path: Path) -> Path | None:
    """Draw one overlay; a file that changed since it was judged costs its picture and nothing else."""
    from pneumoscope.inference.explain import explain_prediction, write_overlay
    from pneumoscope.radiographs.images import read_radiograph

    try:
        radiograph = read_radiograph(source)
    except ImageError as error:
        echo_stderr(f"no heatmap of {printable(str(source))}, which can be read only once: {error}")
        return None
    return write_overlay(explain_prediction(predictor, radiograph, prediction), path)


def _make_folder(folder: Path | None) -> None:
    """Before the work, so that it is not done in vain."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"expected a folder to write to at {folder}: {error.strerror}") from None


def _keep_inputs(sources: list, outputs: list[Path | None]) -> None:
    """Refuse an output that is one of the images."""
    inputs = {source.resolve() for source in sources if isinstance(source, Path)}
    for output in outputs:
        if output is not None and output.resolve() in inputs:
            raise UsageError(f"expected another output than the image {output} itself: name a new file")


class UniqueNames:
    """Overlay names in a folder: the image's own, with a number where two images share it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.taken = folder, set()

    def assign(self, source: Path, sources: list) -> Path:
        """A name that no other overlay of this run has and that is none of its images."""
        if not self.taken:
            folder = self.folder.resolve()
            paths = [path.resolve() for path in sources if isinstance(path, Path)]
            self.taken = {path.name.lower() for path in paths if path.parent == folder} | {""}
        stem, number = Path(source).stem, 1
        name = f"{stem}.png"
        while name.lower() in self.taken:  # case-insensitive file systems exist
            number += 1
            name = f"{stem}-{number}.png"
        self.taken.add(name.lower())
        return self.folder / name
