"""A damaged picture inside a DICOM file is never judged, as far as its encoding shows the damage."""

import collections
import contextlib
import logging

import cv2
import numpy as np
import pytest
from builders.damage import compressed_frames, damaged_files, whole_files
from builders.dicom_files import dicom_with_frame, display, make_dataset
from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1

from pneumoscope.errors import ImageError, UnreadableImage
from pneumoscope.radiographs.dicom.entropy import has_whole_scan
from pneumoscope.radiographs.images import read_radiograph

#: Encodings whose files can be cut, closed and holed without a trace: none. One changed byte is another matter: the
#: lowest share that must be noticed, in percent.
ONE_BYTE = {
    "JPEG, 8 bits": 40,
    "JPEG, 12 bits": 40,
    "JPEG lossless, 8 bits": 40,
    "JPEG lossless, 12 bits": 40,
    "JPEG-LS, 8 bits": 90,
    "JPEG-LS, 12 bits": 90,
    "JPEG-LS near-lossless": 90,
    "JPEG 2000, 8 bits": 70,
    "JPEG 2000, 12 bits": 70,
    "JPEG 2000 lossy": 70,
    "RLE, 8 bits": 0,
    "RLE, 12 bits": 0,
}


@pytest.fixture(scope="module")
def chest(samples) -> np.ndarray:
    return cv2.resize(read_radiograph(samples[0]).pixels, (320, 256), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def outcomes(chest) -> dict[tuple[str, str], list[str]]:
    """(encoding, damage) -> the sentence for each file; empty if the file is judged."""
    results: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for name, damage, data in damaged_files(chest, changes=24):
        try:
            read_radiograph(data)
            results[name, damage].append("")
        except UnreadableImage as error:
            results[name, damage].append(str(error))
    return results


def test_whole_files_of_every_encoding_are_read(chest):
    for name, data in whole_files(chest).items():
        np.testing.assert_allclose(display(data).astype(int), chest.astype(int), atol=12, err_msg=name)


@pytest.mark.parametrize("encoding", [*ONE_BYTE, "deflated", "uncompressed"])
def test_a_picture_that_lacks_something_is_refused(outcomes, encoding):
    for (name, damage), sentences in outcomes.items():
        if name == encoding and damage != "one byte changed":
            assert all(sentences), (damage, sentences)


@pytest.mark.parametrize("encoding", ONE_BYTE)
def test_a_changed_byte_is_noticed_as_often_as_the_encoding_allows(outcomes, encoding):
    sentences = outcomes[encoding, "one byte changed"]
    assert 100 * sum(map(bool, sentences)) / len(sentences) >= ONE_BYTE[encoding]


def test_a_cut_frame_is_called_cut_off(outcomes):
    for (name, damage), sentences in outcomes.items():
        if damage.startswith("cut at") and not damage.endswith("closed") and not name.startswith("RLE"):
            assert all("cut off" in sentence for sentence in sentences), (name, damage, sentences)


def test_damage_is_noticed_while_logging_is_disabled(chest):
    logging.disable(logging.CRITICAL)
    try:
        names = [
            (name, data)
            for name, damage, data in damaged_files(chest, 0)
            if name.startswith("JPEG 2000") and damage == "piece zeroed"
        ]
        assert names
        for _, data in names:
            with pytest.raises(ImageError):
                read_radiograph(data)
    finally:
        logging.disable(logging.NOTSET)


def test_decoders_write_nothing(outcomes, chest, capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        for _, _, data in damaged_files(chest, 2):
            with contextlib.suppress(ImageError):
                read_radiograph(data)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_code_words_of_scans_with_restart_markers_are_counted(chest):
    frame = cv2.imencode(".jpg", chest, [cv2.IMWRITE_JPEG_RST_INTERVAL, 7])[1].tobytes()
    assert b"\xff\xd3" in frame
    assert has_whole_scan(frame)
    place = frame.index(b"\xff\xd3")
    assert not has_whole_scan(frame[:place] + frame[place + 2 :])
    assert not has_whole_scan(frame[: place - 40] + frame[place:])
    data = dicom_with_frame(frame, JPEGBaseline8Bit, make_dataset(chest))
    np.testing.assert_allclose(display(data), cv2.imdecode(np.frombuffer(frame, np.uint8), 0), atol=1)


def test_code_words_are_counted_across_parts_of_a_large_scan(monkeypatch, chest):
    monkeypatch.setattr("pneumoscope.radiographs.dicom.entropy._BYTES_AT_ONCE", 4000)
    frames = compressed_frames(chest)
    for name in ("JPEG, 8 bits", "JPEG, 12 bits", "JPEG lossless, 8 bits", "JPEG lossless, 12 bits"):
        frame = frames[name][2]
        assert has_whole_scan(frame), name
        assert not has_whole_scan(frame[: len(frame) // 2] + b"\xff\xd9"), name
        assert not has_whole_scan(frame[:-2] + bytes(8) + b"\xff\xd9"), name


def test_a_lossless_frame_of_noise_is_whole():
    """Every length of code word and value occurs."""
    noise = np.random.default_rng(0).integers(0, 1 << 16, (96, 80)).astype(np.uint16)
    import imagecodecs

    frame = imagecodecs.jpeg8_encode(noise, bitspersample=16, lossless=True)
    assert has_whole_scan(frame)
    data = dicom_with_frame(frame, JPEGLosslessSV1, make_dataset(noise, 16))
    assert display(data).std() > 50
