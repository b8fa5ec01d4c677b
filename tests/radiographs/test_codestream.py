"""The EXIF orientation and the segments of a JPEG."""

import struct

import numpy as np
import pytest
from builders.image_files import encode, with_jpeg_size

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.codestream import exif_orientation
from pneumoscope.radiographs.images import read_radiograph


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_read_or_unclear(gray, order):
    """1 to 8 if the EXIF is clear, 0 if it is not. OpenCV decodes the latter."""

    def orientation(*entries: tuple, directory: int = 8, count: int | None = None, tail: bytes = bytes(4)) -> int:
        tiff = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", directory)
        tiff += struct.pack(order + "H", len(entries) if count is None else count)
        tiff += b"".join(struct.pack(order + "HHIHH", *entry) for entry in entries) + tail
        return exif_orientation(with_exif(gray, tiff))

    upright, rotated, other = (0x0112, 3, 1, 1, 0), (0x0112, 3, 1, 6, 0), (0x010F, 2, 2, 65, 0)
    assert (orientation(upright), orientation(rotated), orientation(other)) == (1, 6, 1)
    assert (orientation(other, rotated), orientation()) == (6, 1)
    assert orientation(upright, rotated) == 0
    assert orientation((0x0112, 4, 1, 1, 0)) == 0  # a 32-bit number instead of a 16-bit one
    assert orientation((0x0112, 3, 2, 1, 0)) == orientation((0x0112, 3, 1, 9, 0)) == 0
    assert orientation(upright, directory=4) == orientation(upright, directory=2**32 - 1) == 0
    assert orientation(upright, count=60_000) == 0
    assert exif_orientation(with_exif(gray, b"no order")) == exif_orientation(with_exif(gray, b"II*\0")) == 0
    assert exif_orientation(encode(gray, "JPEG")) == 1
    twice = with_exif(gray, b"II*\0" + struct.pack("<IH", 8, 0))
    segment = twice[2 : 2 + 2 + 2 + 6 + 10]
    assert (exif_orientation(twice), exif_orientation(twice[:2] + segment + twice[2:])) == (1, 0)


def with_exif(gray: np.ndarray, tiff: bytes) -> bytes:
    """A JPEG with an EXIF segment of this content."""
    data = encode(gray, "JPEG", quality=98)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff + data[2:]


@pytest.mark.parametrize("marker", [0x00, 0x01, 0x02, 0xBF, *range(0xD0, 0xDA)])
def test_a_marker_without_content_cannot_hide_the_size_of_a_jpeg(gray, marker, no_opencv):
    """Decoders skip such a marker and find the large frame. A reader that skips its "content" finds the small one."""
    data = encode(gray, "JPEG")
    frame = data.index(b"\xff\xc0")
    small = data[frame : frame + 2 + struct.unpack(">H", data[frame + 2 : frame + 4])[0]]
    large = with_jpeg_size(small, 12_000, 12_000)
    hidden = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(large)) + large
    with pytest.raises(UnreadableImage, match="cut off or damaged"):
        read_radiograph(data[:frame] + hidden + small + data[frame + len(small) :])
