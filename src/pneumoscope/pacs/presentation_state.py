"""Explanation -> DICOM presentation state: outlines and words that a viewer draws on the radiograph itself.

Unlike the Secondary Capture, it has no pixels: the reader keeps the full radiograph, its window and measurements, and
switches the outlines off and on. A Segmentation would hold the same outlines, but few viewers draw one on a projection
radiograph, which has no place in space; nearly all draw a presentation state.
"""

import highdicom.pr as pr
import numpy as np
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.errors import UsageError
from pneumoscope.inference.explain import Explanation
from pneumoscope.labels import PNEUMONIA
from pneumoscope.pacs.identifiers import identify_result

#: The evidence is outlined where the heatmap reaches this share of its maximum.
EVIDENCE_LEVEL = 0.5
#: The lungs are outlined where the lung field reaches this probability.
LUNG_LEVEL = 0.5
#: An outline may leave its exact course by this share of the image's longer side, which keeps the object small.
_TOLERANCE = 0.002

_CIELAB = {"EVIDENCE": (65, 55, 60), "LUNGS": (80, -20, -25), "TEXT": (95, 0, 0)}  # orange, light blue, near white


def make_presentation_state(source: Dataset, explanation: Explanation) -> Dataset:
    """The outlines of one judged radiograph: evidence for pneumonia, and the lungs where the model has a lung field.

    Args:
        source: header of the radiograph, see :func:`pneumoscope.pacs.source_image.read_source_image`.
        explanation: of it.

    Returns:
        The data set, ready to be written, with patient and study of the radiograph.

    Raises:
        UsageError: the radiograph is stored in colour, which a Grayscale Softcopy Presentation State cannot refer to.
    """
    if source.get("SamplesPerPixel", 1) != 1:
        raise UsageError("expected a radiograph stored in gray for a presentation state, received one stored in colour")
    outlines = {}
    if explanation.label == PNEUMONIA:
        outlines["EVIDENCE"] = _outline(explanation.heatmap, EVIDENCE_LEVEL, source)
    if explanation.lungs is not None:
        outlines["LUNGS"] = _outline(explanation.lungs, LUNG_LEVEL, source)
    layers = [
        pr.GraphicLayer(name, order, display_color=_colour(name)) for order, name in enumerate([*outlines, "TEXT"], 1)
    ]
    annotations = [
        pr.GraphicAnnotation([source], layer, graphic_objects=[_polyline(points) for points in outlines[name]])
        for layer, name in zip(layers, outlines, strict=False)
        if outlines[name]
    ]
    words = pr.TextObject(
        _words(explanation), pr.AnnotationUnitsValues.DISPLAY, bounding_box=(0.01, 0.9, 0.99, 0.99),
        text_justification=pr.TextJustificationValues.LEFT,
    )  # fmt: skip
    annotations.append(pr.GraphicAnnotation([source], layers[-1], text_objects=[words]))
    state = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[source],
        **identify_result("PR", source, explanation.prediction),
        content_label="PNEUMOSCOPE",
        content_description="Outlines, research use only",
        graphic_annotations=annotations,
        graphic_layers=layers,
    )
    state.Laterality = ""  # both sides are shown
    return state


def _outline(values: np.ndarray, level: float, source: Dataset) -> list[np.ndarray]:
    """(H, W) from 0 to 1 -> closed lines (N, 2) around what reaches a level, as (column, row) of the stored pixels."""
    import cv2

    contours, _ = cv2.findContours((values >= level).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # The radiograph may have been resampled to square pixels; the lines refer to the stored ones.
    scale = np.array([source.Columns / values.shape[1], source.Rows / values.shape[0]])
    lines = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, _TOLERANCE * max(values.shape), closed=True)[:, 0]
        if len(points) >= 3:
            # Pixel (0, 0) has its centre at (0.5, 0.5) (PS3.3, C.10.5.1.2).
            stored = np.clip((points + 0.5) * scale, 0, [source.Columns, source.Rows])
            lines.append(np.vstack([stored, stored[:1]]))
    return lines


def _polyline(points: np.ndarray) -> pr.GraphicObject:
    return pr.GraphicObject(pr.GraphicTypeValues.POLYLINE, points, pr.AnnotationUnitsValues.PIXEL)


def _colour(name: str) -> CIELabColor:
    return CIELabColor(*_CIELAB[name])


def _words(explanation: Explanation) -> str:
    prediction = explanation.prediction
    return (
        f"{prediction.verdict}\r\n"
        f"{explanation.method}, outlined at half of its maximum. {prediction.model}. {RESEARCH_USE_ONLY}"
    )
