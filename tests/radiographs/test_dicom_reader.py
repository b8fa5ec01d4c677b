"""DICOM files through the whole reader: prediction, threads, damaged files, logs, a missing package."""

import subprocess
import sys
import threading

import cv2
import numpy as np
from builders.dicom_files import SECRET, dicom_file, make_dataset, to_bytes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from pneumoscope import load
from pneumoscope.errors import ImageError, RefusedImage, UnreadableImage
from pneumoscope.radiographs.dicom.reader import is_dicom
from pneumoscope.radiographs.images import read_radiograph


def test_dicom_is_recognized_by_its_prefix(image):
    assert is_dicom(dicom_file(image))
    assert not is_dicom(b"DICM")
    assert not is_dicom(bytes(200))


def test_png_and_dicom_of_one_image_get_the_same_probability(samples, tmp_path):
    for path in samples[::8]:
        pixels = read_radiograph(path).pixels
        files = [tmp_path / "a.png", tmp_path / "a.dcm", tmp_path / "inverse.dcm", tmp_path / "12-bit.dcm"]
        cv2.imwrite(str(files[0]), pixels)
        files[1].write_bytes(dicom_file(pixels))
        files[2].write_bytes(dicom_file(255 - pixels, PhotometricInterpretation="MONOCHROME1"))
        elements = {"WindowCenter": 2040.5, "WindowWidth": 4081, "Modality": "DX"}
        elements["SOPClassUID"] = DigitalXRayImageStorageForPresentation
        files[3].write_bytes(dicom_file(pixels.astype(np.uint16) * 16, 12, **elements))
        predictions = list(load().predict_many(files))
        assert len({prediction.probability for prediction in predictions}) == 1
        assert predictions[0].status in ("ok", "uncertain")


def test_a_file_name_without_ending_and_bytes_in_memory_are_read(image, tmp_path):
    (tmp_path / "IM000001").write_bytes(dicom_file(image))
    np.testing.assert_array_equal(read_radiograph(tmp_path / "IM000001").pixels, image)
    np.testing.assert_array_equal(read_radiograph(dicom_file(image)).pixels, image)


def test_threads_read_independently(image):
    files = [dicom_file(np.roll(image, n, axis=1)) for n in range(8)]
    results: dict[int, np.ndarray] = {}

    def read(n: int) -> None:
        results[n] = read_radiograph(files[n]).pixels

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(8):
        np.testing.assert_array_equal(results[n], np.roll(image, n, axis=1))


def test_damaged_files_are_read_or_refused_with_our_errors(image):
    """Changed, missing and inserted bytes in five encodings: an image, or one of our errors in one line."""
    small = cv2.resize(image, (80, 72))
    files = [
        dicom_file(small),
        dicom_file(small, syntax=ImplicitVRLittleEndian),
        dicom_file(small, syntax=DeflatedExplicitVRLittleEndian),
    ]
    for syntax in (RLELossless, JPEG2000Lossless):
        dataset = make_dataset(small)
        dataset.compress(syntax)
        files.append(to_bytes(dataset))
    rng = np.random.default_rng(0)
    outcomes, sentences = set(), []
    for number in range(400):
        data = bytearray(files[number % len(files)])
        header = len(data) if number % 3 == 0 else 900
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(132, min(header, len(data))))] = int(rng.integers(256))
        if number % 4 == 1:
            del data[int(rng.integers(132, len(data))) :]
        elif number % 4 == 2:
            start = int(rng.integers(132, len(data)))
            data[start:start] = rng.bytes(7)
        try:
            outcomes.add(read_radiograph(bytes(data)).pixels.dtype)
        except ImageError as error:
            outcomes.add(type(error))
            sentences.append(str(error))
    assert not any(SECRET in sentence or "\n" in sentence for sentence in sentences)
    assert {np.dtype(np.uint8), UnreadableImage, RefusedImage} <= outcomes


def test_pydicom_logs_nothing_and_other_loggers_are_unchanged(image, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file(image, NumberOfFrames=0))  # pydicom warns about this value and logs it
    code = (
        "import logging, sys, warnings, pydicom; logging.basicConfig(level=logging.INFO);"
        "from pathlib import Path; from pneumoscope.radiographs.dicom.reader import read_dicom;"
        "data = Path(sys.argv[1]).read_bytes();"
        "read_dicom(data, 10**8, 10**8); before = list(warnings.filters); read_dicom(data, 10**8, 10**8);"
        "print(warnings.filters == before, logging.getLogger().level); logging.getLogger('mine').info('heard')"
    )
    command = [sys.executable, "-W", "always", "-c", code, str(path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "True 20\n", "INFO:mine:heard\n")


def test_missing_pydicom_is_explained_in_one_sentence(image, monkeypatch, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file(image))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (prediction,) = load().predict_many([path])
    assert prediction.status == "error"
    assert prediction.reason == (
        "expected pydicom to read a DICOM file, it is not installed: run  pip install 'pneumoscope[dicom]'"
    )
