"""Explanation -> overlay: the radiograph with its heatmap, a colour bar and a caption, as an array or a file.

Where the model has a lung field, its outline is drawn too.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.errors import PneumoscopeError, UsageError
from pneumoscope.inference.explain import Explanation
from pneumoscope.inference.prediction import Prediction
from pneumoscope.io.atomic import write_atomic

#: Opacity of the colours where the heatmap is strongest.
OPACITY = 0.5
#: A radiograph whose longer side has fewer pixels is enlarged, so that the caption can be read.
MIN_LONGER_SIDE = 600

_JPEG_COMMENT = b"\xff\xfe\x00\x0dpneumoscope"  # tells this program that it wrote the file (T.81, B.2.4.5)
_AFTER_IHDR = 33  # bytes of a PNG's signature and first chunk, IHDR
_BACKGROUND = 24  # gray level of the margins
_OUTLINE = (255, 255, 120)  # BGR; a light blue that no heatmap has
_WHITE, _LIGHT_GRAY, _GRAY = (255, 255, 255), (220, 220, 220), (190, 190, 190)  # of text


def draw_overlay(explanation: Explanation) -> np.ndarray:
    """Draw the heatmap on the full-size radiograph, with a colour bar and a caption.

    Returns:
        (H', W', 3) uint8 RGB: the radiograph, enlarged by a whole factor if it has fewer than 600 pixels, with a
        margin on the right and one at the bottom.
    """
    import cv2

    pixels, heatmap = explanation.radiograph.pixels, explanation.heatmap
    factor = -(-MIN_LONGER_SIDE // max(pixels.shape))  # rounded up
    if factor > 1:
        pixels, heatmap = (cv2.resize(image, None, fx=factor, fy=factor) for image in (pixels, heatmap))
    opacity = OPACITY * heatmap  # (H, W), so that nothing is hidden where there is no evidence
    gray = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    blended = cv2.blendLinear(gray, _to_colours(heatmap), 1 - opacity, opacity)  # (H, W, 3) uint8 BGR
    if explanation.lungs is not None:
        _outline(blended, explanation.lungs)
    return cv2.cvtColor(_add_margins(blended, explanation), cv2.COLOR_BGR2RGB)


def write_overlay(explanation: Explanation, path: str | Path) -> Path:
    """Draw the overlay and write it as PNG or JPEG, depending on the file ending.

    Raises:
        UsageError: another file ending.
        PneumoscopeError: the file cannot be written.
    """
    import cv2

    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"expected an overlay file ending in .png, .jpg or .jpeg, received {str(path)!r}")
    picture = draw_overlay(explanation)
    if path.suffix.lower() == ".png":
        content = encode_png(picture)
        content = content[:_AFTER_IHDR] + _text_chunk(explanation.prediction) + content[_AFTER_IHDR:]
    else:
        content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        content = content[:2] + _JPEG_COMMENT + content[2:]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise PneumoscopeError(f"expected to write the overlay {path}: {error.strerror}") from None
    return path


def encode_png(picture: np.ndarray) -> bytes:
    """(H, W) gray or (H, W, 3) RGB uint8 -> PNG.

    Fast rather than small, since an overlay is looked at and seldom archived. Every row uses the filter "Up". To try
    all filters on each row, which is the default, takes twice as long and does not make the file smaller.
    """
    import cv2

    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    return cv2.imencode(".png", picture, options)[1].tobytes()


def is_overlay_of(path: Path, prediction: Prediction) -> bool:
    """Whether a PNG file is the overlay of this prediction, by the text that :func:`write_overlay` put into it."""
    expected = _text_chunk(prediction)
    try:
        with path.open("rb") as file:
            return file.read(_AFTER_IHDR + len(expected))[_AFTER_IHDR:] == expected
    except OSError:
        return False


def _text_chunk(prediction: Prediction) -> bytes:
    """Image, model, threshold and prevalence as a tEXt chunk (PNG specification, section 11.3.4.3)."""
    values = prediction.image_sha256, prediction.model_sha256, prediction.threshold, prediction.prevalence
    body = b"tEXtpneumoscope\0" + " ".join(map(str, values)).encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _outline(picture: np.ndarray, lungs: np.ndarray) -> None:
    """Draw where the lung field (h, w) falls below one half onto a picture (H, W, 3)."""
    import cv2

    height, width = picture.shape[:2]
    inside = (cv2.resize(lungs, (width, height)) > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, _OUTLINE, max(1, round(max(width, height) / 500)), cv2.LINE_AA)


def _to_colours(values: np.ndarray) -> np.ndarray:
    """(H, W) from 0 to 1 -> (H, W, 3) uint8 BGR.

    The turbo colour map without its dark ends, which cannot be told from the black of a radiograph.
    """
    import cv2

    low, high = 25, 225
    levels: np.ndarray = np.rint(low + values * (high - low)).astype(np.uint8)
    return cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)


def _add_margins(picture: np.ndarray, explanation: Explanation) -> np.ndarray:
    """Add the colour bar on the right and the caption at the bottom; (H, W, 3) BGR in, (H', W', 3) BGR out."""
    import cv2

    height, width = picture.shape[:2]
    scale = max(width, height) / 1000  # text and bar grow with the radiograph
    lines = _caption(explanation)
    font_scale = _fit_text(lines, 0.9 * scale, max_width=width * 0.96)
    thickness = max(1, round(1.8 * font_scale))
    line_height = round(38 * font_scale) + 2
    right, bottom = round(110 * scale) + 40, line_height * len(lines) + round(20 * font_scale)  # sizes of the margins
    canvas = np.full((height + bottom, width + right, 3), _BACKGROUND, np.uint8)
    canvas[:height, :width] = picture
    _draw_colour_bar(canvas[:, width:], height, scale)
    for number, line in enumerate(lines, 1):
        colour = _WHITE if number == 1 else _GRAY
        origin = (round(width * 0.02), height + number * line_height)
        cv2.putText(canvas, line, origin, cv2.FONT_HERSHEY_SIMPLEX, font_scale, colour, thickness, cv2.LINE_AA)
    return canvas


def _caption(explanation: Explanation) -> list[str]:
    prediction = explanation.prediction
    extent = "relative to its maximum" + ("" if explanation.lungs is None else "; outline: lungs")
    return [
        prediction.verdict,
        f"{explanation.method} for {explanation.label} ({explanation.probability:.3f}), {extent}",
        f"{prediction.model}, threshold {prediction.threshold:.3f}. {RESEARCH_USE_ONLY}",
    ]


def _fit_text(lines: list[str], font_scale: float, max_width: float) -> float:
    """The font scale, reduced until the longest line fits."""
    import cv2

    while font_scale > 0.2 and max_width < max(
        cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, font_scale, 1)[0][0] for line in lines
    ):
        font_scale *= 0.95
    return font_scale


def _draw_colour_bar(margin: np.ndarray, height: int, scale: float) -> None:
    """Draw the colours from 1 at the top to 0 at the bottom, with three numbers, into (H', right, 3) BGR pixels."""
    import cv2

    top, bottom = round(height * 0.08), round(height * 0.92)
    right = margin.shape[1]
    left, bar_width = right // 6, max(8, right // 5)
    ramp = np.linspace(1, 0, bottom - top)[:, None]
    margin[top:bottom, left : left + bar_width] = _to_colours(np.repeat(ramp, bar_width, axis=1))
    font_scale = max(0.35, 0.7 * scale)
    thickness = max(1, round(1.5 * font_scale))
    for value in (1.0, 0.5, 0.0):
        y = round(bottom - value * (bottom - top))
        origin = (left + bar_width + max(3, right // 16), y + round(9 * font_scale))
        cv2.putText(
            margin, f"{value:.1f}", origin, cv2.FONT_HERSHEY_SIMPLEX, font_scale, _LIGHT_GRAY, thickness, cv2.LINE_AA
        )
