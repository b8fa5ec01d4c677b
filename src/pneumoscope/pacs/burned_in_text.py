"""Is there text in the borders of a radiograph, where consoles write names and dates?

A warning, not a proof: text of unusual size, or over the body, is not found.
"""

import numpy as np

#: Share of the height, and of the width, that counts as border.
BORDER = 0.2
#: Height of a character as a share of the image's height.
CHARACTER = (0.008, 0.05)
#: So many characters in one line are text; single letters mark the side.
MIN_CHARACTERS = 5

_LEVELS = 60  # gray levels by which a character differs from what is around it


def find_text_lines(pixels: np.ndarray) -> int:
    """Count the lines in the borders that look like text.

    Characters are parts of one brightness, of the size of characters, of which several stand beside each other.

    Args:
        pixels: (H, W) uint8.

    Returns:
        Number of lines.
    """
    import cv2

    height, width = pixels.shape
    size = max(3, round(height * CHARACTER[1]) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (size, size))
    bright = cv2.morphologyEx(pixels, cv2.MORPH_TOPHAT, kernel) > _LEVELS  # bright on dark
    dark = cv2.morphologyEx(pixels, cv2.MORPH_BLACKHAT, kernel) > _LEVELS
    border = np.ones((height, width), bool)
    top, left = round(height * BORDER), round(width * BORDER)
    border[top : height - top, left : width - left] = False
    return sum(_count_lines((mask & border).astype(np.uint8), height) for mask in (bright, dark))


def _count_lines(mask: np.ndarray, height: int) -> int:
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    low, high = (max(5, height * share) for share in CHARACTER)
    boxes = [
        (x, y, w, h) for x, y, w, h, area in stats[1:] if low <= h <= high and w <= 1.5 * h and area >= 0.15 * w * h
    ]
    boxes.sort()
    lines: list[list[tuple[int, int, int, int]]] = []
    for box in boxes:
        for line in lines:
            if _continues(line[-1], box):
                line.append(box)
                break
        else:
            lines.append([box])
    return sum(len(line) >= MIN_CHARACTERS for line in lines)


def _continues(last: tuple[int, int, int, int], box: tuple[int, int, int, int]) -> bool:
    """Whether a character stands to the right of another one, at the same height, and as large."""
    x, y, w, h = last
    gap, rise = box[0] - (x + w), abs((box[1] + box[3]) - (y + h))
    return -0.3 * h <= gap <= 1.5 * h and rise <= 0.3 * h and 0.5 <= box[3] / h <= 2
