"""Model file and labelled data -> evaluation folder; for ``evaluate`` and ``compare``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.datasets import read_data
from pneumoscope.cli.error_gallery import draw_errors
from pneumoscope.cli.paths import check_evaluation_folder
from pneumoscope.cli.progress import progress_bar
from pneumoscope.cli.reports import write_report_page
from pneumoscope.errors import DatasetError
from pneumoscope.io.names import printable

if TYPE_CHECKING:
    from pneumoscope.data.manifest import Manifest, TableOptions
    from pneumoscope.inference.predict import Predictor


def evaluation_folder(predictor: "Predictor", split: str) -> Path:
    """The default folder: different for two models of one name, and for two operating points of one model."""
    bundle = predictor.bundle
    point = "" if predictor.threshold == bundle.threshold else f"-at{predictor.threshold:g}"
    point += "" if predictor.prevalence == bundle.prevalence else f"-prevalence{predictor.prevalence:g}"
    return Path("evaluations") / f"{bundle.name}-{bundle.sha256[:8]}-{split}{point}"


def evaluate_predictor(
    predictor: "Predictor",
    data: Path,
    split: str,
    folder: Path,
    table: "TableOptions | None" = None,
    errors: int = 0,
    robustness: bool = False,
) -> dict[str, Any]:
    """Evaluate a model on a split of the data; writes report, predictions, figures and page to the folder.

    Args:
        predictor, data, split, folder, table: as on the command line.
        errors: of each kind, for the page.
        robustness: measure on changed radiographs, too.
    """
    from pneumoscope.data.splits import select_records
    from pneumoscope.evaluation.evaluate import evaluate_model
    from pneumoscope.evaluation.report import FIGURES
    from pneumoscope.evaluation.report_files import PREDICTIONS_NAME, read_report, rewrite_report
    from pneumoscope.evaluation.robustness_table import measure_robustness
    from pneumoscope.training.runs import MONITOR, read_history

    _check_split(predictor, data, split)
    check_evaluation_folder(folder, [PREDICTIONS_NAME, "report.json", "report.html", *FIGURES])
    with progress_bar() as show_progress:
        manifest = read_data(data, show_progress, table)
        records, fingerprint = select_records(manifest, split, predictor.bundle.contract["training"])
        if split == "all":
            _warn_of_training_images(predictor, manifest)
        report = evaluate_model(
            predictor, manifest, records, split, out=folder, progress=show_progress, fingerprint=fingerprint
        )
        rows = read_report(folder)[1]
        if robustness:
            judged = [record for record, row in zip(records, rows, strict=True) if row["probability"] is not None]
            report["robustness"] = measure_robustness(predictor, manifest, judged, show_progress)
            rewrite_report(report, folder)
    history = read_history(predictor.bundle.path.parent)  # present if the model lies in its run folder
    if history and MONITOR not in history[0]:  # the training held no images out, so there are no curves
        history = None
    pictures = draw_errors(predictor, manifest.root, rows, errors) if errors else []
    write_report_page(report, rows, folder, history, pictures)
    return report


def _check_split(predictor: "Predictor", data: Path, split: str) -> None:
    """Refuse at once to measure held-out images of a model that has none; reading the data may take minutes."""
    from pneumoscope.data.manifest import OFFICIAL_SPLITS
    from pneumoscope.data.splits import ALL

    if not data.exists() or split != "val" or predictor.bundle.contract["training"]["recipe"]["split"] != ALL:
        return
    has_test = any((data / name).is_dir() for name in (OFFICIAL_SPLITS[-1], OFFICIAL_SPLITS[-1].upper()))
    raise DatasetError(
        f"expected a model with a held-out split, {predictor.bundle.name} was trained on all images and its figures "
        f"come from its folds: type  pneumoscope evaluate --data {shlex.quote(printable(str(data)))} "
        f"--split {'test' if has_test else 'all'}  to measure it on {'the test images' if has_test else 'other data'}"
    )


def _warn_of_training_images(predictor: "Predictor", manifest: "Manifest") -> None:
    """Print a note if these are the data that the model was trained on."""
    from pneumoscope.data.splits import ALL, make_split

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
        "note: --split all contains the images that this model was trained on, so its figures are too good; use "
        f"--split {others}"
    )
