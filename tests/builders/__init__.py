"""What several tests build: DICOM and image files, damaged ones, a running service."""

from pathlib import Path

#: Top folder of the checkout.
ROOT = Path(__file__).parents[2]
