"""Pixels -> model input: training, evaluation and prediction share one implementation."""

import dataclasses

import cv2
import numpy as np
import pytest

from pneumoscope.errors import BundleError
from pneumoscope.inference.preprocess import IMAGE, MAX_SIDE, ROWS, InputSpec, preprocess, resize, to_input
from pneumoscope.radiographs.images import Radiograph, read_radiograph

SPECS = [InputSpec(), InputSpec(layout=ROWS), InputSpec(96, 128, 1), InputSpec(224, 100, 3, ROWS)]


@pytest.mark.parametrize("spec", SPECS)
def test_training_evaluation_and_prediction_see_the_same_bytes(samples, spec):
    """Training resizes all images, keeps the small ones, and scales batches; prediction takes one file at a time."""
    small = np.stack([resize(read_radiograph(path), spec) for path in samples])  # (N, H, W) uint8
    assert small.dtype == np.uint8
    together = to_input(small, spec)
    assert together.shape == (len(samples), *spec.shape)
    assert together.dtype == np.float32
    for row, path in zip(together, samples, strict=True):
        assert preprocess(path.read_bytes(), spec).tobytes() == row.tobytes()
    halves = np.concatenate([to_input(small[:7], spec), to_input(small[7:], spec)])
    assert halves.tobytes() == together.tobytes()


def test_rows_are_the_image_reshaped(samples):
    """Each row of the image is one step; the three channels of a pixel are neighbours."""
    image = preprocess(samples[0], InputSpec(layout=IMAGE))
    rows = preprocess(samples[0], InputSpec(layout=ROWS))
    assert rows.shape == (1, 150, 450)
    np.testing.assert_array_equal(rows, image.reshape(1, 150, 450))
    np.testing.assert_array_equal(rows[0, :, 0::3], image[0, :, :, 0])


def test_channels_are_copies(samples):
    image = preprocess(samples[0], InputSpec(channels=3))
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    np.testing.assert_array_equal(image[..., :1], preprocess(samples[0], InputSpec(channels=1)))


def test_gray_levels_become_zero_to_one():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    unit = to_input(levels, InputSpec(16, 16, 1))[0, :, :, 0].ravel()
    assert unit[0] == 0.0
    assert unit[255] == 1.0
    assert (np.diff(unit) > 0).all()
    np.testing.assert_array_equal(unit, np.arange(256, dtype=np.float32) / np.float32(255))


@pytest.mark.parametrize("value", [0, 1, 77, 128, 254, 255])
@pytest.mark.parametrize("shape", [(997, 1391), (64, 64), (64, 256), (300, 300), (150, 150), (149, 151)])
def test_a_constant_image_stays_constant(value, shape):
    small = resize(Radiograph(np.full(shape, value, np.uint8)), InputSpec())
    assert small.shape == (150, 150)
    assert (small == value).all()


@pytest.mark.parametrize("shape", [(600, 450), (301, 1001), (2663, 2916), (151, 150)])
def test_shrinking_keeps_the_mean(shape):
    """Area averaging keeps the mean. Interpolation that picks pixels (nearest, linear) does not."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    small = resize(Radiograph(pixels), InputSpec())
    assert small.mean() == pytest.approx(pixels.mean(), abs=0.5)
    if min(shape) > 300:
        assert small.std() < pixels.std() / 2


def test_shrinking_by_a_whole_factor_averages_blocks():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 450), dtype=np.uint8)
    blocks = pixels.reshape(150, 4, 150, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(Radiograph(pixels), InputSpec()), blocks, atol=0.51)


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 64), (149, 150)])
def test_small_images_grow_smoothly(shape):
    """A ramp stays a ramp, without steps from repeated pixels and without values outside its range."""
    for axis in (0, 1):
        ramp = np.linspace(10, 250, shape[axis]).astype(np.uint8)
        pixels = np.broadcast_to(ramp[:, None] if axis == 0 else ramp, shape)
        small = resize(Radiograph(np.ascontiguousarray(pixels)), InputSpec()).astype(int)
        steps = np.diff(small, axis=axis)
        assert small.shape == (150, 150)
        assert (steps >= 0).all()
        assert steps.max() <= 8
        assert (small.min(), small.max()) == (10, 250)


def test_an_image_of_the_right_size_is_untouched(gray):
    spec = InputSpec(*gray.shape)
    np.testing.assert_array_equal(resize(Radiograph(gray), spec), gray)


def test_mirroring_commutes_with_resizing(samples):
    """Resizing does not shift the image by half a pixel."""
    pixels = read_radiograph(samples[0]).pixels
    mirrored = resize(Radiograph(np.ascontiguousarray(pixels[:, ::-1])), InputSpec())
    difference = mirrored[:, ::-1].astype(int) - resize(Radiograph(pixels), InputSpec())
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_is_read_back_as_it_was_written(spec):
    assert InputSpec.from_dict(spec.to_dict()) == spec
    assert set(spec.to_dict()) == {field.name for field in dataclasses.fields(InputSpec)}


def test_a_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="height"):
        InputSpec().height = 3


@pytest.mark.parametrize(
    "values", [{}, {"height": 3}, {**InputSpec().to_dict(), "windowing": "lung"}, [], None, "rows"]
)
def test_unknown_or_missing_keys_are_errors(values):
    with pytest.raises(BundleError, match="expected the input keys aspect, channels, height"):
        InputSpec.from_dict(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [("layout", "columns"), ("layout", ["rows"]), ("aspect", "letterbox"), ("resize", "cubic"), ("scale", None)],
)
def test_unknown_values_are_errors(name, value):
    with pytest.raises(BundleError, match=f"expected input {name} to be one of .*, received"):
        InputSpec.from_dict({**InputSpec().to_dict(), name: value})


@pytest.mark.parametrize("name", ["height", "width", "channels"])
@pytest.mark.parametrize("value", [0, -1, MAX_SIDE + 1, 1.5, "150", None, True])
def test_sizes_are_whole_numbers_within_limits(name, value):
    with pytest.raises(BundleError, match=f"expected input {name} to be a whole number from 1 to 4096, received"):
        InputSpec.from_dict({**InputSpec().to_dict(), name: value})


def test_a_scaled_decoding_gives_nearly_the_same_input(samples):
    """The two specs differ only in the decoding. Files smaller than the limit are not scaled."""
    full, scaled = InputSpec(resize="area-224"), InputSpec(resize="scaled-224")
    differences = [np.abs(preprocess(path, full) - preprocess(path, scaled)).mean() for path in samples]
    assert 0 < max(differences) < 0.005
    small = cv2.imencode(".jpg", cv2.resize(read_radiograph(samples[0]).pixels, (300, 300)))[1].tobytes()
    np.testing.assert_array_equal(preprocess(small, full), preprocess(small, scaled))
