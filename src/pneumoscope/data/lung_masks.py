"""Lung masks drawn by people: a folder with the sub-folders and names of the radiographs, each mask a PNG file.

A mask belongs to the image with the same ``split/LABEL/name``, whatever the ending. It covers the same field as its
image, and may have another size. Nonzero pixels are lung. Images without a mask are fine: they are counted, and only
their label is learnt.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from pneumoscope.data.manifest import Record
from pneumoscope.errors import DatasetError
from pneumoscope.inference import InputSpec

#: Pixels of the model's input, along each side, that one cell of a lung field or an evidence map covers.
CELL = 16


@dataclass(frozen=True)
class LungMasks:
    """A folder of masks.

    Attributes:
        folder: contains ``[split/]LABEL/name.png``.
    """

    folder: Path

    def path(self, record: Record) -> Path | None:
        """The mask of an image; None if it has none."""
        key = PurePosixPath(record.key).with_suffix(".png")
        for name in (key, PurePosixPath(*key.parts[1:])):  # with and without the split
            if (self.folder / name).is_file():
                return self.folder / name
        return None

    def read(self, records: Sequence[Record], spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
        """Masks at the size of a model's input.

        Returns:
            (N, height, width) uint8, 255 in the lungs, all 0 without a mask; and (N,) float32, 1 with a mask.

        Raises:
            DatasetError: a file that is no image.
        """
        import cv2

        masks = np.zeros((len(records), spec.height, spec.width), np.uint8)
        known = np.zeros(len(records), np.float32)
        for row, record in enumerate(records):
            if path := self.path(record):
                mask = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE) if path.stat().st_size else None
                if mask is None:
                    raise DatasetError(f"expected a PNG mask at {path}, it cannot be read: write it again or remove it")
                full = np.where(mask > 0, np.uint8(255), np.uint8(0))
                masks[row] = cv2.resize(full, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
                known[row] = 1
        return masks, known

    def count_sentence(self, records: Sequence[Record]) -> str:
        """How many of the images have a mask.

        Raises:
            DatasetError: none has one.
        """
        known = sum(self.path(record) is not None for record in records)
        if not known:
            raise DatasetError(
                f"expected masks of the images in {self.folder}, found none: give the folder with the sub-folders and "
                "names of the images, such as train/NORMAL/IM-0115-0001.png"
            )
        return f"masks for {known:,} of {len(records):,} images"

    def sha256(self, records: Sequence[Record]) -> str:
        """Hash of the masks of some images, in their order."""
        total = hashlib.sha256()
        for record in records:
            path = self.path(record)
            total.update(path.read_bytes() if path else b"none")
        return total.hexdigest()


def to_cells(mask: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The share of lung in each cell of :data:`CELL` pixels: (H, W) uint8 -> (height / 16, width / 16) float32."""
    import cv2

    size = (spec.width // CELL, spec.height // CELL)
    cells: np.ndarray = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    return cells
