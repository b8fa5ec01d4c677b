"""Augmentation: seeded, within its ranges, and equal to the prediction path if nothing is drawn."""

import dataclasses

import numpy as np
import pytest

from pneumoscope.data.aspect_ratio import aspect_corrections
from pneumoscope.data.augment import Augmentation, augment
from pneumoscope.data.style import StylePartners
from pneumoscope.errors import UsageError
from pneumoscope.inference.preprocess import InputSpec, preprocess, resize, to_input
from pneumoscope.radiographs.images import Radiograph, read_radiograph

SPEC = InputSpec(height=64, width=64)
#: For each field a value that changes something.
STRONG = {
    "equalize_aspect": 1.0, "crop_side": 0.5, "crop_both": 0.5, "rotation": 20.0, "scale": 1.3, "shift": 0.2,
    "flip": 1.0, "gamma": 2.0, "contrast": 2.0,
    "brightness": 0.3, "tone": 0.9, "blur": 0.7, "noise": 0.2, "markers": 1.0, "border": 1.0,
    "erase": 1.0, "sharpen": 2.0, "jpeg": 1.0, "style": 1.0, "style_least": 0.9, "style_corners": 1.0,
}  # fmt: skip


def drawn(pixels, seed=0, spec=SPEC, aspect_correction=1.0, **ranges):
    partners = StylePartners.measure(np.stack([255 - pixels, pixels // 2]), np.array([0, 1]), spec)
    return augment(pixels, spec, Augmentation(**ranges), np.random.default_rng(seed), aspect_correction, partners)


def plain(pixels, spec=SPEC):
    return resize(Radiograph(pixels), spec)


def test_without_any_change_the_result_is_that_of_the_prediction_path(samples):
    for path in samples[::6]:
        changed = drawn(read_radiograph(path).pixels)
        assert to_input(changed[None], SPEC).tobytes() == preprocess(path, SPEC).tobytes()


def test_without_any_change_all_gray_levels_stay():
    levels = np.arange(256, dtype=np.uint8).repeat(16).reshape(64, 64)
    for seed in range(50):
        np.testing.assert_array_equal(drawn(levels, seed), levels)


def test_every_field_is_tested_here():
    assert set(STRONG) == {field.name for field in dataclasses.fields(Augmentation)}


@pytest.mark.parametrize("name", STRONG)
def test_each_field_changes_the_result_but_not_its_input(gray, name):
    spec = InputSpec(height=48, width=72)
    before = gray.copy()
    rest = {"style": 0.9} if name == "style_least" else {}  # without it, the field says nothing
    wide = 1.3 if name == "equalize_aspect" else 1.0  # for a wide radiograph, training makes this of the field
    pictures = [drawn(gray, seed, spec, wide, **rest, **{name: STRONG[name]}) for seed in range(10)]
    for picture in pictures:
        assert (picture.shape, picture.dtype) == ((48, 72), np.uint8)
    assert sum(not np.array_equal(picture, plain(gray, spec)) for picture in pictures) >= 8
    np.testing.assert_array_equal(gray, before)  # the next epoch uses the cached image again


@pytest.mark.parametrize("name", [*STRONG, "all"])
def test_the_generator_determines_the_picture(gray, name):
    ranges = STRONG if name == "all" else {name: STRONG[name]}
    if name == "style_least":
        ranges = {"style": 1.0, **ranges}
    for seed in range(5):
        np.testing.assert_array_equal(drawn(gray, seed, **ranges), drawn(gray, seed, **ranges))
    if name not in ("flip", "equalize_aspect", "style_least"):  # these are hardly random at full strength
        assert len({drawn(gray, seed, **ranges).tobytes() for seed in range(10)}) >= 8


@pytest.mark.parametrize("shape", [(64, 64), (65, 300), (400, 64), (224, 224)])
def test_any_size_can_be_changed_in_every_way(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for seed in range(20):
        picture = drawn(pixels, seed, **STRONG)
        assert (picture.shape, picture.dtype) == ((64, 64), np.uint8)


def _shares(seed, **ranges):
    """Shares of width and height that a crop keeps, measured on two ramps that are cropped in the same way."""
    ramp = np.linspace(0, 255, 500)
    shares = []
    for pixels in (np.tile(ramp, (500, 1)), np.tile(ramp, (500, 1)).T):
        picture = drawn(np.ascontiguousarray(pixels.astype(np.uint8)), seed, **ranges).astype(float)
        gray_range = picture.max() - picture.min()
        shares.append(gray_range / 255 / (1 - 1 / 64))  # the outer averages are half a pixel inside
    return shares


def test_the_crop_makes_the_aspect_ratio_random():
    shares = np.array([_shares(seed, crop_side=0.5) for seed in range(60)])  # (60, 2)
    ratio = np.log2(shares[:, 0] / shares[:, 1])
    np.testing.assert_allclose(shares.max(axis=1), 1, atol=0.03)  # one side is kept whole
    assert shares.min() > 0.47
    assert shares.min() < 0.6
    assert 0.3 < (ratio > 0.03).mean() < 0.7
    assert 0.3 < (ratio < -0.03).mean() < 0.7
    assert ratio.std() > 0.3


def test_cropping_both_sides_keeps_the_ratio_and_changes_the_position():
    shares = np.array([_shares(seed, crop_both=0.5) for seed in range(30)])
    np.testing.assert_allclose(shares[:, 0], shares[:, 1], atol=0.03)
    assert shares.min() < 0.6
    assert shares.max() > 0.9
    ramp = np.tile(np.linspace(0, 255, 500).astype(np.uint8), (500, 1))
    edges = [drawn(ramp, seed, crop_both=0.5).min() for seed in range(30)]
    assert min(edges) < 20
    assert max(edges) > 60


def _extent(picture):
    """Rows and columns of the bright part of a picture."""
    return [int(np.ptp(places)) + 1 for places in np.nonzero(picture > 127)]


def test_a_wide_radiograph_becomes_wider_and_lower_around_its_middle():
    square = np.zeros((64, 64), np.uint8)
    square[23:41, 23:41] = 255
    assert _extent(drawn(square, aspect_correction=2.25)) == [12, 28]
    assert _extent(drawn(square, aspect_correction=1 / 2.25)) == [28, 12]
    picture = drawn(square, aspect_correction=2.25)
    np.testing.assert_array_equal(picture, picture[::-1])
    np.testing.assert_array_equal(picture, picture[:, ::-1])
    np.testing.assert_array_equal(drawn(square, aspect_correction=2.25, flip=1.0), picture)


@pytest.mark.parametrize("ranges", [{}, {"crop_side": 0.6, "rotation": 10.0, "scale": 1.2, "shift": 0.07, "flip": 0.5}])
def test_equalizing_adds_the_same_black_to_wide_and_narrow_radiographs(ranges):
    """Otherwise black at the sides or above would tell the labels apart, because their ratios differ."""
    white = np.full((96, 96), 255, np.uint8)
    for seed in range(20):
        wide, narrow = (
            drawn(white, seed, aspect_correction=aspect_correction, **ranges) for aspect_correction in (1.3, 1 / 1.3)
        )
        assert np.abs(wide.astype(int) - narrow).max() <= 1
    assert 0.05 < np.mean(drawn(white, aspect_correction=1.3) < 128) < 0.3


def test_after_equalizing_a_chest_looks_the_same_from_films_of_any_ratio():
    """One square chest on films of three ratios, squashed to a square. Only the corrected pictures look the same."""
    corrected, squashed = [], []
    ratios = [1.0, 1.5, 2.0]
    factors = aspect_corrections(ratios, ["NORMAL", "NORMAL", "NORMAL"], 1.0)
    for ratio, aspect_correction in zip(ratios, factors, strict=True):
        film = np.zeros((600, round(600 * ratio)), np.uint8)
        middle = film.shape[1] // 2
        film[200:400, middle - 100 : middle + 100] = 255
        small = plain(film, InputSpec(height=224, width=224))
        corrected.append(np.divide(*_extent(drawn(small, aspect_correction=aspect_correction))))
        squashed.append(np.divide(*_extent(plain(small))))
    assert max(corrected) / min(corrected) < 1.12  # whole pixels
    assert max(squashed) / min(squashed) > 1.8


def test_flip_is_the_mirror_image_with_its_probability(gray):
    np.testing.assert_array_equal(drawn(gray, flip=1.0), plain(gray)[:, ::-1])
    mirrored = [np.array_equal(drawn(gray, seed, flip=0.3), plain(gray)[:, ::-1]) for seed in range(300)]
    assert np.mean(mirrored) == pytest.approx(0.3, abs=0.08)


def test_geometry_adds_black_and_keeps_the_centre():
    white = np.full((64, 64), 255, np.uint8)
    for seed in range(10):
        turned = drawn(white, seed, rotation=30)
        assert turned[32, 32] == 255
        assert turned[0, 0] < 255
    point = np.zeros((64, 64), np.uint8)
    point[30:34, 30:34] = 255
    moved = drawn(point, 1, shift=0.3)
    assert moved.max() > 100
    assert np.abs(np.argwhere(moved > 100).mean(axis=0) - 31.5).max() <= 0.3 * 64 + 1


@pytest.mark.parametrize("ranges", [{"gamma": 2.0}, {"tone": 1.0}, {"contrast": 2.0}, {"brightness": 0.3}])
def test_exposure_keeps_the_order_of_the_grays(ranges):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    for seed in range(20):
        exposed = drawn(ramp, seed, **ranges).astype(int)
        assert (np.diff(exposed, axis=1) >= 0).all()
        assert (exposed == exposed[0]).all()  # the same gray becomes the same gray everywhere


def test_brightness_uses_its_whole_range_in_both_directions():
    middle = np.full((64, 64), 128, np.uint8)
    middle[0] = 129
    shifts = [int(drawn(middle, seed, brightness=0.2)[32, 32]) - 128 for seed in range(200)]
    assert -52 <= min(shifts) < -40
    assert 40 < max(shifts) <= 52


def test_noise_has_its_strength_and_hardly_changes_the_mean():
    middle = np.full((64, 64), 128, np.uint8)
    pictures = np.array([drawn(middle, seed, noise=0.1) for seed in range(100)], float)
    assert 20 < pictures.std(axis=(1, 2)).max() < 27  # 0.1 * 255
    assert pictures.mean() == pytest.approx(128, abs=1)


def test_a_border_is_black_and_narrow():
    white = np.full((64, 64), 255, np.uint8)
    for seed in range(20):
        framed = drawn(white, seed, border=1.0)
        assert set(np.unique(framed)) <= {0, 255}
        assert (framed[7:-7, 7:-7] == 255).all()


def test_one_rectangle_is_erased(gray):
    for seed in range(20):
        erased = drawn(gray, seed, erase=1.0)
        rows, columns = np.nonzero(erased != plain(gray))
        hole = erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert len(np.unique(hole)) == 1
        assert max(hole.shape) <= 22  # a third of 64, rounded


def test_markers_are_not_in_the_middle(gray):
    for seed in range(20):
        marked = drawn(gray, seed, markers=1.0)
        np.testing.assert_array_equal(marked[22:44, 22:44], plain(gray)[22:44, 22:44])


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("value", [-0.1, 500.0, float("nan"), float("inf"), "0.5", None, True])
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(UsageError, match=rf"^expected augment\.{name} from [\d.]+ to [\d.]+, received "):
        Augmentation(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("crop_side", 0.1, "expected augment.crop_side from 0.2 to 1, received 0.1"),
        ("gamma", 0.9, "expected augment.gamma from 1 to 4, received 0.9"),
        ("flip", 1.01, "expected augment.flip from 0 to 1, received 1.01"),
        ("rotation", 181, "expected augment.rotation from 0 to 180, received 181"),
    ],
)
def test_the_error_gives_the_range(name, value, sentence):
    with pytest.raises(UsageError) as caught:
        Augmentation(**{name: value})
    assert str(caught.value) == sentence


def test_whole_numbers_become_floats():
    assert Augmentation(rotation=10, scale=1) == Augmentation(rotation=10.0)
    assert type(Augmentation(rotation=10).rotation) is float
