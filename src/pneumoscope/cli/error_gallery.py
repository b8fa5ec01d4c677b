"""The wrong verdicts that a model is surest of, with their evidence, as small pictures for a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumoscope.errors import ImageError
from pneumoscope.io.names import printable
from pneumoscope.labels import NORMAL, PNEUMONIA

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor

_WIDTH, _QUALITY = 640, 82  # of a picture: pixels, and JPEG quality


def draw_errors(
    predictor: "Predictor", root: Path, rows: Sequence[dict[str, Any]], number: int
) -> list[tuple[str, bytes]]:
    """Draw the evidence behind the worst errors of each kind.

    Args:
        predictor: that made the predictions.
        root: folder that the paths of the rows begin at.
        rows: from :func:`pneumoscope.evaluation.report_files.read_report`.
        number: at most so many false alarms, and so many missed pneumonias.

    Returns:
        (caption, JPEG bytes) of each, false alarms first.
    """
    from pneumoscope.inference.explain import explain

    pictures = []
    for row in _worst(rows, number):
        try:
            explanation = explain(predictor, root / row["path"], PNEUMONIA)
        except ImageError:  # it was readable a moment ago
            continue
        kind = "false alarm" if row["label"] == NORMAL else "missed pneumonia"
        caption = f"{kind}: {printable(Path(row['path']).name)}, probability of pneumonia {row['probability']:.3f}"
        pictures.append((caption, _to_jpeg(explanation)))
    return pictures


def _worst(rows: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    wrong = [row for row in rows if row["verdict"] not in (None, row["label"])]
    alarms = sorted((row for row in wrong if row["label"] == NORMAL), key=lambda row: -row["probability"])
    missed = sorted((row for row in wrong if row["label"] == PNEUMONIA), key=lambda row: row["probability"])
    return [*alarms[:number], *missed[:number]]


def _to_jpeg(explanation: Any) -> bytes:
    import cv2

    from pneumoscope.output.overlay import draw_overlay

    image = draw_overlay(explanation)
    scale = min(1.0, _WIDTH / image.shape[1])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(encoded[1].tobytes())
