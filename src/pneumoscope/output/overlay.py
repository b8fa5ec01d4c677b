"""An explanation -> a picture to look at, as an array or a file."""

import struct
import zlib
from pathlib import Path

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.errors import PneumoscopeError, UsageError
from pneumoscope.inference.explain import Explanation
from pneumoscope.inference.predict import Prediction
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import LABELS, POSITIVE

#: Share of the radiograph that the strongest colour covers.
OPACITY = 0.5
_AFTER_IHDR = 33  # bytes of a PNG's signature and first chunk
#: Longer side, in pixels, below which an overlay is enlarged.
MIN_DRAWN = 600


def draw_overlay(explanation: Explanation) -> np.ndarray:
    """The heatmap on the full-size radiograph, with a colour bar and a caption.

    Returns:
        (H', W', 3) uint8 RGB: the radiograph's size (a whole multiple for one under 600 pixels) and a margin
        at the right and at the bottom.
    """
    import cv2

    pixels, heatmap = explanation.radiograph.pixels, explanation.heatmap
    factor = -(-MIN_DRAWN // max(pixels.shape))
    if factor > 1:  # a thumbnail is enlarged, or its caption could not be read
        pixels, heatmap = (cv2.resize(image, None, fx=factor, fy=factor) for image in (pixels, heatmap))
    opacity = OPACITY * heatmap  # (H, W), follows the evidence: where there is none, nothing is hidden
    gray = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    picture = cv2.blendLinear(gray, _colours(heatmap), 1 - opacity, opacity)  # (H, W, 3) uint8
    return cv2.cvtColor(_with_margins(picture, explanation), cv2.COLOR_BGR2RGB)


def write_overlay(explanation: Explanation, path: str | Path) -> Path:
    """Draw the overlay and write it as PNG or JPEG, by the ending.

    Raises:
        UsageError: another ending.
        PneumoscopeError: the file cannot be written.
    """
    import cv2

    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"expected an overlay file ending in .png, .jpg or .jpeg, received {str(path)!r}")
    picture = draw_overlay(explanation)
    if path.suffix.lower() == ".png":
        content = encode_png(picture)
        content = content[:_AFTER_IHDR] + _mark(explanation.prediction) + content[_AFTER_IHDR:]
    else:
        content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise PneumoscopeError(f"expected to write the overlay {path}: {error.strerror}") from None
    return path


def encode_png(picture: np.ndarray) -> bytes:
    """(H, W) gray or (H, W, 3) RGB uint8 -> PNG.

    Compressed a little: what is looked at and not archived. Every row is told from the one above it, for trying all
    filters on each row, the default, takes twice as long and makes files of the same size.
    """
    import cv2

    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    return cv2.imencode(".png", picture, options)[1].tobytes()


def is_overlay_of(path: Path, prediction: Prediction) -> bool:
    """Whether a PNG file is the overlay of this very prediction, by a mark that :func:`write_overlay` left in it."""
    mark = _mark(prediction)
    try:
        with path.open("rb") as file:
            return file.read(_AFTER_IHDR + len(mark))[_AFTER_IHDR:] == mark
    except OSError:
        return False


def _mark(prediction: Prediction) -> bytes:
    """A tEXt chunk (PNG specification, section 11.3.4.3): which image, which model, at which point."""
    values = prediction.image_sha256, prediction.model_sha256, prediction.threshold, prediction.prevalence
    body = b"tEXtpneumoscope\0" + " ".join(map(str, values)).encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _colours(share: np.ndarray) -> np.ndarray:
    """0 to 1 -> BGR uint8: the turbo map without its dark ends, which would sink into the black of a radiograph."""
    import cv2

    low, high = 25, 225
    return cv2.applyColorMap(np.rint(low + share * (high - low)).astype(np.uint8), cv2.COLORMAP_TURBO)


def _with_margins(picture: np.ndarray, explanation: Explanation) -> np.ndarray:
    """Add the colour bar at the right and the caption below; BGR in, BGR out."""
    import cv2

    height, width = picture.shape[:2]
    scale = max(width, height) / 1000  # text and bar grow with the radiograph
    lines = _caption(explanation)
    font = cv2.FONT_HERSHEY_SIMPLEX
    size = 0.9 * scale
    room = width * 0.96
    while size > 0.2 and max(cv2.getTextSize(line, font, size, 1)[0][0] for line in lines) > room:
        size *= 0.95
    thickness = max(1, round(1.8 * size))
    line_height = round(38 * size) + 2
    right, below = round(110 * scale) + 40, line_height * len(lines) + round(20 * size)
    canvas = np.full((height + below, width + right, 3), 24, np.uint8)
    canvas[:height, :width] = picture
    _draw_bar(canvas, height, width, right, scale)
    for number, line in enumerate(lines, 1):
        colour = (255, 255, 255) if number == 1 else (190, 190, 190)
        at = (round(width * 0.02), height + number * line_height)
        cv2.putText(canvas, line, at, font, size, colour, thickness, cv2.LINE_AA)
    return canvas


def _caption(explanation: Explanation) -> list[str]:
    prediction = explanation.prediction
    share = prediction.probability if explanation.label == LABELS[POSITIVE] else 1 - prediction.probability
    uncertain = " (uncertain)" if prediction.status == "uncertain" else ""
    return [
        f"{prediction.label}{uncertain}: probability of pneumonia {prediction.probability:.3f}",
        f"{explanation.method} for {explanation.label} ({share:.3f}), relative to its maximum",
        f"{prediction.model}, threshold {prediction.threshold:.3f}. {RESEARCH_USE_ONLY}",
    ]


def _draw_bar(canvas: np.ndarray, height: int, width: int, right: int, scale: float) -> None:
    import cv2

    top, bottom = round(height * 0.08), round(height * 0.92)
    left, bar = width + right // 6, max(8, right // 5)
    ramp = np.linspace(1, 0, bottom - top)[:, None]
    canvas[top:bottom, left : left + bar] = _colours(np.repeat(ramp, bar, axis=1))
    size = max(0.35, 0.7 * scale)
    for value in (1.0, 0.5, 0.0):
        y = round(bottom - value * (bottom - top))
        at = (left + bar + max(3, right // 16), y + round(9 * size))
        cv2.putText(
            canvas, f"{value:.1f}", at, cv2.FONT_HERSHEY_SIMPLEX, size, (220, 220, 220), max(1, round(1.5 * size)),
            cv2.LINE_AA,
        )  # fmt: skip
