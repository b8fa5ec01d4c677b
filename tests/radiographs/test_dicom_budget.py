"""Reading a DICOM header has a budget, whatever the file claims."""

import collections
import struct
import time
import tracemalloc

import imagecodecs
import numpy as np
import pytest
from builders.dicom_files import dicom_file, dicom_with_frame, make_dataset, to_bytes
from builders.hostile_dicom import KINDS, hostile_files
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian

from pneumoscope.errors import ImageError, ImageTooLarge, RefusedImage, UnreadableImage
from pneumoscope.radiographs.dicom.elements import MAX_DEPTH, MAX_ELEMENTS
from pneumoscope.radiographs.images import read_radiograph

#: Far above what any of these files needs, because other processes share the cores of a test.
SECONDS = 10.0


def test_hostile_files_are_answered_within_the_budget():
    """benchmarks/damage/hostile_headers.py measures seconds and memory of two thousand."""
    outcomes, sentences = collections.Counter(), []
    for name, data in hostile_files(2 * len(KINDS), seed=7):
        start = time.perf_counter()
        try:
            outcomes[type(read_radiograph(data)).__name__] += 1
        except ImageError as error:
            outcomes[type(error).__name__] += 1
            sentences.append(str(error))
        assert time.perf_counter() - start < SECONDS, name
    assert outcomes["UnreadableImage"] > 8
    assert all(sentence.isascii() and sentence.isprintable() for sentence in sentences)


@pytest.mark.parametrize("count", [MAX_ELEMENTS // 2, MAX_ELEMENTS + 1])
@pytest.mark.parametrize("deflated", [False, True])
def test_items_are_counted(image, count, deflated):
    dataset = make_dataset(image)
    if deflated:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.ViewCodeSequence = [Dataset() for _ in range(count)]
    data = to_bytes(dataset)
    if count < MAX_ELEMENTS:
        assert read_radiograph(data).pixels.shape == image.shape
    else:
        with pytest.raises(UnreadableImage, match="a DICOM header of at most 20,000 elements"):
            read_radiograph(data)


@pytest.mark.parametrize("depth", [MAX_DEPTH // 2 - 2, MAX_DEPTH])
def test_levels_are_counted(image, depth):
    dataset = make_dataset(image)
    inner = dataset
    for _ in range(depth):
        inner.ReferencedImageSequence = [Dataset()]
        inner = inner.ReferencedImageSequence[0]
    if depth < MAX_DEPTH // 2:
        assert read_radiograph(to_bytes(dataset)).pixels.shape == image.shape
    else:
        with pytest.raises(UnreadableImage, match="16 levels"):
            read_radiograph(to_bytes(dataset))


def test_a_deflated_file_of_many_items_is_refused_before_it_is_inflated(image):
    """A hundred megabytes of empty items in a file of some hundred kilobytes."""
    from builders.hostile_dicom import _ITEM, _PRIVATE_SEQUENCE, _file

    items = (_ITEM + bytes(4)) * 12_000_000
    data = _file(_PRIVATE_SEQUENCE + b"SQ\0\0" + struct.pack("<I", len(items)) + items, DeflatedExplicitVRLittleEndian)
    del items
    tracemalloc.start()
    with pytest.raises(UnreadableImage, match="a DICOM header of at most"):
        read_radiograph(data)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("keyword", ["WindowCenter", "PatientOrientation", "PixelSpacing", "SpecificCharacterSet"])
def test_a_value_of_megabytes_is_not_converted(image, keyword):
    from builders.hostile_dicom import _with_first_element
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    value = b"1\\" * 20_000
    element = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"UN\0\0" + struct.pack("<I", len(value)) + value
    with pytest.raises(UnreadableImage, match="a DICOM header of at most"):
        read_radiograph(_with_first_element(dicom_file(image), element))


def test_a_compressed_frame_has_a_smaller_limit_than_an_image(image):
    header = make_dataset(image)
    header.Rows = header.Columns = 6000
    blank = imagecodecs.jpeg2k_encode(np.zeros((64, 64), np.uint8), codecformat="J2K")
    large = blank[:8] + struct.pack(">II", 6000, 6000) + blank[16:]
    with pytest.raises(ImageTooLarge, match="at most 30 megapixels, the compressed frame announces 6000x6000"):
        read_radiograph(dicom_with_frame(large, JPEG2000, header))
    header.Rows = header.Columns = 5000
    large = blank[:8] + struct.pack(">II", 5000, 5000) + blank[16:]
    with pytest.raises(RefusedImage, match="compressed picture of 5000x5000 pixels has only"):
        read_radiograph(dicom_with_frame(large, JPEG2000, header))
