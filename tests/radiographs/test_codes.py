"""Codes for programs: each cause of a refusal has its own, and the list of codes is complete."""

import cv2
import numpy as np
import pytest
from builders.dicom_files import dicom_file

from pneumoscope.errors import ImageError
from pneumoscope.radiographs import read_radiograph

GRAY = np.random.default_rng(0).integers(0, 256, (100, 100)).astype(np.uint8)
JPEG = cv2.imencode(".jpg", GRAY)[1].tobytes()
PNG = cv2.imencode(".png", GRAY)[1].tobytes()
RAMP = np.tile(np.arange(100, dtype=np.uint16) * 40, (100, 1))

CASES = {
    "empty": b"",
    "unsupported_format": b"GIF89a" + bytes(100),
    "cut_off": PNG[: len(PNG) // 2],
    "damaged": PNG[:200] + bytes(20) + PNG[220:],
    "blank": np.zeros((100, 100), np.uint8),
    "too_small": GRAY[:20, :20],
    "strip": np.tile(GRAY, (1, 5)),
    "colour": np.stack([GRAY, GRAY[::-1], GRAY.T], axis=2),
    "pixel_values": GRAY.astype(np.float32),
    "too_large": bytes(100_000_001),
    "not_found": "nothing.png",
    "modality": dicom_file(GRAY, Modality="CT"),
    "body_part": dicom_file(GRAY, BodyPartExamined="HAND"),
    "view": dicom_file(GRAY, ViewPosition="LL"),
    "for_processing": dicom_file(GRAY, PresentationIntentType="FOR PROCESSING"),
    "several_frames": dicom_file(GRAY, NumberOfFrames=2),
    "age": dicom_file(GRAY, PatientAge="062Y"),
    "window": dicom_file(RAMP, 16, WindowCenter=-9000, WindowWidth=10),
}


@pytest.mark.parametrize("code", CASES)
def test_a_refusal_has_the_code_of_its_cause(code):
    with pytest.raises(ImageError) as refusal:
        read_radiograph(CASES[code])
    assert refusal.value.code == code


def test_a_cut_jpeg_is_called_cut_off_and_a_whole_one_is_read():
    assert read_radiograph(JPEG).pixels.shape == GRAY.shape
    with pytest.raises(ImageError) as refusal:
        read_radiograph(JPEG[: len(JPEG) // 2])
    assert refusal.value.code == "cut_off"
