"""Labelled radiographs: files and labels, patients, splits, and random changes of the images.

In: a folder, a CSV, an archive. Out: a :class:`Manifest`, a :class:`Split`, changed radiographs.
Read first: ``manifest.py``; then ``scan.py``, which makes a manifest, and ``splits.py``. The functions ``fetch.fetch``
and ``augment.augment`` have the names of their modules; import them from there.
"""

from pneumoscope.data.aspect_ratio import aspect_corrections, common_ratio, median_ratios
from pneumoscope.data.augment import Augmentation, augment_with_mask, compress_jpeg
from pneumoscope.data.class_names import ClassNames
from pneumoscope.data.lung_masks import CELL, LungMasks, to_cells
from pneumoscope.data.manifest import NO_SPLIT, OFFICIAL_SPLITS, Manifest, Record, TableOptions
from pneumoscope.data.overlaps import find_overlaps
from pneumoscope.data.patients import describe_sources
from pneumoscope.data.scan import THUMBNAIL, list_dataset, read_dataset, same_pictures
from pneumoscope.data.splits import (
    ALL,
    AS_PUBLISHED,
    CLASS_WEIGHTS,
    PATIENT_WISE,
    Split,
    check_scheme,
    class_weights,
    make_split,
    read_split,
    select_records,
    write_split,
)
from pneumoscope.data.style import BAND_SIGMAS, StylePartners, copy_corners, measure_style, move_style

__all__ = [
    "ALL",
    "AS_PUBLISHED",
    "BAND_SIGMAS",
    "CELL",
    "CLASS_WEIGHTS",
    "NO_SPLIT",
    "OFFICIAL_SPLITS",
    "PATIENT_WISE",
    "THUMBNAIL",
    "Augmentation",
    "ClassNames",
    "LungMasks",
    "Manifest",
    "Record",
    "Split",
    "StylePartners",
    "TableOptions",
    "aspect_corrections",
    "augment_with_mask",
    "check_scheme",
    "class_weights",
    "common_ratio",
    "compress_jpeg",
    "copy_corners",
    "describe_sources",
    "find_overlaps",
    "list_dataset",
    "make_split",
    "measure_style",
    "median_ratios",
    "move_style",
    "read_dataset",
    "read_split",
    "same_pictures",
    "select_records",
    "to_cells",
    "write_split",
]
