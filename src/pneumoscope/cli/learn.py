"""Commands that need labels: train, crossval, export, evaluate, compare."""

import json
import time
from pathlib import Path

import typer

from pneumoscope.cli import app
from pneumoscope.cli.options import DATA, MODEL, PREVALENCE, THRESHOLD, open_predictor, read_training_data
from pneumoscope.cli.output import echo_stderr, print_table, printable, progress_bar
from pneumoscope.errors import DatasetError, UsageError


@app.command()
def train(
    data: Path = DATA,
    model: str = typer.Option(None, help="mobilenet or lstm: its reference recipe.", metavar="mobilenet|lstm"),
    recipe: str = typer.Option(None, help="A recipe file, or the name of a shipped recipe.", metavar="FILE|NAME"),
    runs: Path = typer.Option(Path("runs"), help="Parent of the run folders.", metavar="DIR"),
    resume: bool = typer.Option(False, help="Go on with the interrupted run of these options."),
    split: str = typer.Option(
        None,
        help="What to hold out, or a split file; see the reference.",
        metavar="patient|published|fold0of5|all|FILE",
    ),
    seed: int = typer.Option(None, help="Of weights, order and dropout."),
    epochs: int = typer.Option(None, help="Instead of the recipe's."),
    batch_size: int = typer.Option(None, help="Instead of the recipe's."),
    class_weights: str = typer.Option(None, help="Instead of the recipe's.", metavar="inverse-ratio|balanced|none"),
    weights: str = typer.Option(None, help="Local ImageNet weights instead of a download.", metavar="FILE"),
    tensorboard: bool = typer.Option(False, help="Also write TensorBoard logs."),
    cache: bool = typer.Option(True, help="Compute the features of a frozen backbone once."),
) -> None:
    """Train, export and measure a model.

    The file is measured on the held-out images. Ctrl-C at any time; --resume goes on and ends with the same figures.
    """
    from pneumoscope.training.recipe import read_recipe

    if (model is None) == (recipe is None):
        raise UsageError("expected either --model or --recipe, received " + ("both" if model else "neither"))
    if model is not None and model not in ("mobilenet", "lstm"):
        raise UsageError(
            f"expected --model mobilenet or lstm, received {model!r}: give other recipes with --recipe FILE"
        )
    resolved = read_recipe(
        recipe or f"reference-{model}",
        **_split_options(split),
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        class_weights=class_weights,
        weights=weights,
    )
    from pneumoscope.data.splits import ALL
    from pneumoscope.training.crossval import train_average
    from pneumoscope.training.runs import run_id
    from pneumoscope.training.train import train as run_training

    averages = resolved.average > 0 and resolved.split == ALL
    with progress_bar() as show, _TrainingProgress(resolved.epochs) as watch:
        manifest = read_training_data(data, resolved, show)
        _check_split_file(split, manifest)
        if averages:
            echo_stderr(f"training {resolved.average} folds under {runs}, then averaging their weights")
            run = train_average(resolved, manifest, runs=runs, progress=show, on_run=_tell_row, on_batch=watch)
        else:
            echo_stderr(f"{'resuming' if resume else 'training'} {runs / run_id(resolved)}")
            run = run_training(
                resolved,
                manifest,
                runs=runs,
                resume=resume,
                cache=cache,
                tensorboard=tensorboard,
                progress=show,
                on_batch=watch,
            )
    _release_and_print(run, manifest)


@app.command()
def crossval(
    recipe: str = typer.Option(..., help="A recipe file, or the name of a shipped recipe.", metavar="FILE|NAME"),
    data: Path = DATA,
    splits: str = typer.Option(
        "fold0of5,fold1of5,fold2of5,fold3of5,fold4of5",
        help="Splits to run; harder ones: hold-early, hold-IM, hold-NORMAL2.",
        metavar="NAME,NAME...",
    ),
    seeds: str = typer.Option("0", help="Trainings a split; the folds of the first seed are pooled.", metavar="N,N..."),
    runs: Path = typer.Option(Path("runs"), help="Parent of the run folders.", metavar="DIR"),
    epochs: int = typer.Option(None, help="Instead of the recipe's."),
    weights: str = typer.Option(None, help="Local ImageNet weights instead of a download.", metavar="FILE"),
) -> None:
    """Train and measure a recipe on patient-wise folds.

    Each fold is an ordinary run, measured on its held-out patients as they are and under simulated shifts. Stop it
    at any time: the same command goes on.
    """
    from pneumoscope.training.recipe import read_recipe

    resolved = read_recipe(recipe, epochs=epochs, weights=weights)
    from pneumoscope.data.splits import check_scheme

    chosen = {"splits": [name.strip() for name in splits.split(",")], "seeds": _numbers("--seeds", seeds)}
    for name in chosen["splits"]:
        check_scheme(name)
    from pneumoscope.training.crossval import cross_validate

    with progress_bar() as show, _TrainingProgress(resolved.epochs) as watch:
        manifest = read_training_data(data, resolved, show)
        result = cross_validate(
            resolved, manifest, runs=runs, progress=show, on_run=_tell_row, on_batch=watch, **chosen
        )
    if "pooled" in result:
        _print_out_of_fold(resolved.name, result["pooled"])
        doubtful = len(result["pooled"]["suspects"])
        print(f"{doubtful} labels look wrong, see {runs / (resolved.name + '-suspects.csv')}")
    print(f"written to {runs / (resolved.name + '-folds.json')}")


def _tell_row(row: dict) -> None:
    """A line for each finished run of a cross-validation."""
    figures = "  ".join(f"{name} {row['metrics'][name]['value']:.4f}" for name in ("accuracy", "roc_auc"))
    areas = [found["roc_auc"] for found in row["shifts"].values()]
    echo_stderr(f"{row['run']}: {figures}  AUC over shifts {sum(areas) / len(areas):.4f}")


def _numbers(option: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UsageError(f"expected {option} as different whole numbers like 0,1,2, received {text!r}")
    return [int(part) for part in parts]


@app.command()
def export(
    run: Path = typer.Argument(help="A finished run folder.", metavar="RUN"),
    data: Path = DATA,
) -> None:
    """Write a finished run as one ONNX file again.

    It is measured on the run's held-out images, and the figures go into the file.
    """
    from pneumoscope.training.runs import open_finished_run

    _release_and_print(open_finished_run(run), data)


@app.command()
def evaluate(
    data: Path = DATA,
    model: str = MODEL,
    split: str = typer.Option(
        "val", help="Held-out images of the training, the official test, or all.", metavar="val|test|all"
    ),
    out: Path = typer.Option(None, help="Folder of report.json, report.html and figures.", metavar="DIR"),
    threshold: str = THRESHOLD,
    prevalence: float = PREVALENCE,
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Measure a model file, with 95 % intervals."""
    predictor = open_predictor(model, threshold, prevalence)
    folder = out or _evaluation_folder(predictor, split)
    report = _evaluate(predictor, data, split, folder)
    if as_json:
        print(json.dumps(report))
    else:
        _print_report(report)
        print(f"report {folder / 'report.html'}")
    raise typer.Exit(1 if report["failed"] else 0)


@app.command()
def compare(
    models: list[str] = typer.Argument(help="Two or more report folders, or models with --data.", metavar="A B..."),
    data: Path = typer.Option(None, "--data", help="Evaluate the models on this data first.", metavar="DIR|CSV"),
    split: str = typer.Option("val", metavar="val|test|all", help="As for evaluate."),
    as_json: bool = typer.Option(False, "--json", help="Print the comparison as JSON."),
) -> None:
    """Set models side by side.

    On the same images it adds the paired differences.
    """
    from pneumoscope.evaluation.evaluate import compare as compare_reports
    from pneumoscope.evaluation.evaluate import read_report
    from pneumoscope.evaluation.report import render_comparison

    if len(models) < 2:
        raise UsageError(f"expected two or more models to compare, received {len(models)}")
    from pneumoscope.inference.bundle import shipped_models

    folders = [Path(model) for model in models]
    if not data and any(model in shipped_models() or model.endswith(".onnx") for model in models):
        raise UsageError("expected evaluation folders, received a model: add --data DIR to evaluate the models first")
    if data:
        from pneumoscope.inference.predict import load

        predictors = [load(model) for model in models]
        folders = [_evaluation_folder(predictor, split) for predictor in predictors]
        for predictor, folder in zip(predictors, folders, strict=True):
            _evaluate(predictor, data, split, folder)
    reports, predictions = zip(*(read_report(folder) for folder in folders), strict=True)
    comparison = compare_reports(list(reports), list(predictions))
    if as_json:
        print(json.dumps(comparison))
    else:
        for title, rows in render_comparison(comparison):
            print_table(title, rows)


def _split_options(split: str | None) -> dict:
    """Recipe keys of ``--split``: a scheme, or the scheme, seed and fraction of a split file."""
    from pneumoscope.data.splits import read_split

    if split is None or not split.endswith(".json"):
        return {"split": split}
    saved = read_split(split)
    return {"split": saved.scheme, "split_seed": saved.seed, "validation_fraction": saved.fraction}


def _check_split_file(split: str | None, manifest) -> None:
    """The split that training makes of these data must be the one in the file."""
    from pneumoscope.data.splits import make_split, read_split

    if split is None or not split.endswith(".json"):
        return
    saved = read_split(split)
    made = make_split(manifest, saved.scheme, seed=saved.seed, fraction=saved.fraction)
    if made.fingerprint != saved.fingerprint:
        raise DatasetError(
            f"expected the data that {split} was made of (split {saved.fingerprint[:12]}), the images under "
            f"{manifest.root} give split {made.fingerprint[:12]}: point --data at the same data"
        )


def _release_and_print(run, data) -> None:
    """Export a run, measure the file, print the figures."""
    from pneumoscope.evaluation.evaluate import read_report
    from pneumoscope.training.release import release

    pooled = _pooled(run) if not run.split.val else None
    with progress_bar() as show:
        report = release(run, data, show, pooled)
    print(f"model  {run.folder / 'model.onnx'}")
    if report is None:
        if pooled:
            _print_out_of_fold(run.recipe.name, pooled)
        return
    folder = run.folder / "evaluation-val"
    _draw(report, read_report(folder)[1], folder, run.history)
    _print_report(report)
    print(f"report {folder / 'report.html'}")


def _pooled(run) -> dict | None:
    """Figures and calibration of the folds of a recipe that trains on every image."""
    from pneumoscope.training.crossval import pooled_results

    found = pooled_results(run)
    if found:
        return found
    echo_stderr(
        f"note: trained on every image, without calibration or figures: run  pneumoscope crossval --recipe "
        f"{run.recipe.name}  first and  pneumoscope export  again"
    )
    return None


def _print_out_of_fold(name: str, pooled: dict) -> None:
    rows = [
        (figure, *(f"{pooled[side][figure]['value']:.4f}" for side in ("metrics", "calibrated")))
        for figure in ("accuracy", "roc_auc", "sensitivity", "specificity", "brier", "ece")
    ]
    held_out = pooled["held_out"]
    title = (
        f"{name}, {held_out['images']} images of {held_out['patients']} patients, each judged by the fold without it"
    )
    print_table(title, [("", "as trained", "calibrated"), *rows])


def _evaluation_folder(predictor, split: str) -> Path:
    """Two models of one name, and two operating points of one model, do not overwrite each other."""
    bundle = predictor.bundle
    point = "" if predictor.threshold == bundle.threshold else f"-at{predictor.threshold:g}"
    point += "" if predictor.prevalence == bundle.prevalence else f"-prevalence{predictor.prevalence:g}"
    return Path("evaluations") / f"{predictor.bundle.name}-{predictor.bundle.sha256[:8]}-{split}{point}"


def _evaluate(predictor, data: Path, split: str, folder: Path) -> dict:
    from pneumoscope.data.manifest import read_dataset
    from pneumoscope.data.splits import select_records
    from pneumoscope.evaluation.evaluate import evaluate_model, read_report
    from pneumoscope.training.runs import MONITOR, read_history

    with progress_bar() as show:
        manifest = read_dataset(data, progress=lambda items: show(items, None, "reading images"))
        records, fingerprint = select_records(manifest, split, predictor.bundle.contract["training"])
        _warn_of_training_images(predictor, manifest, split)
        report = evaluate_model(predictor, manifest, records, split, out=folder, progress=show, fingerprint=fingerprint)
    history = read_history(predictor.bundle.path.parent)  # a model in its run folder
    if history and MONITOR not in history[0]:  # it held nothing out: no curves to draw
        history = None
    _draw(report, read_report(folder)[1], folder, history)
    return report


def _warn_of_training_images(predictor, manifest, split: str) -> None:
    from pneumoscope.data.splits import ALL, make_split

    if split != "all":
        return
    training = predictor.bundle.contract["training"]
    recipe = training["recipe"]
    try:
        made = make_split(manifest, recipe["split"], seed=recipe["split_seed"], fraction=recipe["validation_fraction"])
    except DatasetError:  # other data than it was trained on
        return
    if made.fingerprint != training["split_fingerprint"]:
        return
    others = "test" if recipe["split"] == ALL else "val or test"
    echo_stderr(
        f"note: --split all holds the images this model was trained on, its figures flatter; use --split {others}"
    )


def _draw(report: dict, predictions: list, folder: Path, history: list[dict] | None) -> None:
    """Figures and the page; the page alone where the drawing packages are missing."""
    from pneumoscope.errors import MissingExtra
    from pneumoscope.evaluation.figures import draw_figures
    from pneumoscope.evaluation.report import report_html

    try:
        figures = draw_figures(report, predictions, folder, history=history)
    except MissingExtra as error:
        echo_stderr(f"no figures: {error}")
        figures = []
    report_html(report, figures, folder / "report.html")


def _print_report(report: dict) -> None:
    from pneumoscope.evaluation.report import render_table

    data = report["data"]
    title = f"{report['model']['name']} on {data['images']} images of {data['patients']} patients ({data['split']})"
    print_table(title, render_table(report))
    for failed in report["failed"]:
        echo_stderr(f"not judged, in no figure: {printable(failed['path'])}: {failed['reason']}")


class _TrainingProgress:
    """A bar with the time left, or a line an epoch where standard error is no terminal."""

    def __init__(self, epochs: int) -> None:
        from rich.console import Console

        self.console, self.epochs, self.progress = Console(stderr=True), epochs, None

    def __enter__(self) -> "_TrainingProgress":
        self.began, self.first, self.last = None, 0, 0
        return self

    def __exit__(self, *error: object) -> None:
        if self.progress:
            self.progress.stop()

    def __call__(self, step: int, steps: int, metrics: dict) -> None:
        """After each batch."""
        if self.began is None or step <= self.last:  # the first training, or the next one of a cross-validation
            self.began, self.first = time.monotonic(), step - 1
            self.__exit__()
            self._start_bar(steps)
        self.last = step
        epoch = -(-step * self.epochs // steps)
        figures = (
            f"epoch {epoch}/{self.epochs}  loss {metrics.get('loss', 0):.4f}  accuracy {metrics.get('accuracy', 0):.4f}"
        )
        if self.progress:
            self.progress.update(self.task, completed=step, description=figures)
        elif step * self.epochs % steps == 0:
            left = (time.monotonic() - self.began) / (step - self.first) * (steps - step)
            echo_stderr(f"{figures}  about {left:.0f} s left")

    def _start_bar(self, steps: int) -> None:
        if not self.console.is_terminal:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=self.console)
        self.task = self.progress.add_task("", total=steps)
        self.progress.start()
