"""What is said of the compression of a file, against the program that wrote it."""

import io

import numpy as np
import pytest
from PIL import Image

from pneumoscope.radiographs import describe_compression


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_file_is_described_as_pillow_reads_it(gray, quality, mode, progressive):
    data = saved(Image.fromarray(gray).convert(mode), "JPEG", quality=quality, progressive=progressive)
    read = Image.open(io.BytesIO(data))
    found = describe_compression(data)
    assert found.kind == "jpeg"
    assert found.quantisation == pytest.approx(max(np.mean(table) for table in read.quantization.values()))
    assert found.components == len(read.getbands())
    assert found.progressive == bool(read.info.get("progressive"))


def test_other_files_have_a_kind_only(gray):
    assert describe_compression(saved(Image.fromarray(gray), "PNG")) == ("png", 0, 0, False)
    assert describe_compression(saved(Image.fromarray(gray), "TIFF")) == ("other", 0, 0, False)


def test_a_cut_off_file_is_no_error(gray):
    data = saved(Image.fromarray(gray), "JPEG")
    assert {describe_compression(data[:end]).kind for end in range(4, 400)} <= {"jpeg", "other"}
