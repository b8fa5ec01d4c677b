"""The style of a radiograph: measured, moved towards another one, drawn with equal chance of both labels."""

import numpy as np
import pytest

from pneumoscope.data.augment import Augmentation, augment
from pneumoscope.data.style import (
    BAND_SIGMAS,
    CORNER_SIDES,
    Style,
    StylePartners,
    copy_corners,
    measure_style,
    move_style,
    random_style,
)
from pneumoscope.errors import UsageError
from pneumoscope.inference import InputSpec, resize
from pneumoscope.radiographs import read_radiograph

SPEC = InputSpec(height=96, width=96, channels=1)
ALL_BANDS, NO_BANDS = np.ones(len(BAND_SIGMAS)), np.zeros(len(BAND_SIGMAS))


@pytest.fixture(scope="module")
def images(samples) -> np.ndarray:
    """(24, 96, 96) uint8: eight normals, then sixteen pneumonias."""
    return np.stack([resize(read_radiograph(path), SPEC) for path in samples])


@pytest.fixture(scope="module")
def partners(images) -> StylePartners:
    return StylePartners.measure(images, np.repeat([0, 1], [8, 16]), SPEC)


def drawn(image, partners, seed=0, **ranges):
    return augment(image, SPEC, Augmentation(**ranges), np.random.default_rng(seed), partners=partners)


def test_shares_of_zero_leave_the_radiograph(images, partners):
    for image in images[::5]:
        for style in partners.styles[::7]:
            np.testing.assert_array_equal(move_style(image, style, NO_BANDS, 0.0), image)


def test_the_style_of_itself_changes_almost_nothing(images):
    moved = move_style(images[3], measure_style(images[3]), ALL_BANDS, 1.0)
    # A level that no pixel has is skipped by histogram matching, so single pixels may move by two.
    assert np.abs(moved.astype(int) - images[3]).max() <= 2


def test_whole_shares_reach_the_bands_and_the_histogram_of_the_partner(images, partners):
    """Bands within a quarter where no gray level is clipped, because they overlap; the histogram within 0.02."""
    for own, other in ((0, 20), (20, 0), (5, 13), (13, 5)):
        target = partners.styles[other]
        moved = move_style(images[own], target, ALL_BANDS, 1.0)
        assert np.abs(measure_style(moved).cumulative - target.cumulative).mean() < 0.02
        flat = (images[own] / 4 + 96).astype(np.uint8)  # far from black and white
        soft = Style(measure_style((images[other] / 4 + 96).astype(np.uint8)).bands, target.cumulative)
        bands = measure_style(move_style(flat, soft, ALL_BANDS, 0.0)).bands
        np.testing.assert_allclose(bands, soft.bands, rtol=0.25, atol=0.1)


def test_half_of_the_way_lies_between(images, partners):
    target, own = partners.styles[20], partners.styles[0]
    moved = measure_style(move_style(images[0], target, NO_BANDS, 0.5)).cumulative
    distance = np.abs(own.cumulative - target.cumulative).mean()
    assert np.abs(moved - target.cumulative).mean() < 0.75 * distance


def test_an_empty_band_does_not_become_noise():
    gray = np.full((96, 96), 100, np.uint8)
    loud = Style(np.full(5, 50, np.float32), measure_style(gray).cumulative)
    np.testing.assert_array_equal(move_style(gray, loud, ALL_BANDS, 0.0), gray)


def test_corners_are_copied_where_asked_and_nowhere_else(images):
    image, other = np.zeros((96, 96), np.uint8), np.full((96, 96), 255, np.uint8)
    low, high = (round(side * 96) for side in CORNER_SIDES)
    tips = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    for corner in range(4):
        copied = copy_corners(image, other, np.arange(4) == corner, np.random.default_rng(corner))
        assert [copied[tip] == 255 for tip in tips] == [number == corner for number in range(4)]
        rows, columns = (copied.any(axis=1 - axis).sum() for axis in (0, 1))
        assert low <= rows <= high
        assert low <= columns <= high
        assert (copied == 255).sum() == rows * columns
    np.testing.assert_array_equal(copy_corners(image, other, np.zeros(4, bool), np.random.default_rng(0)), image)
    assert not image.any()


def test_the_sides_of_a_corner_do_not_depend_on_the_others():
    image, other = np.zeros((96, 96), np.uint8), np.full((96, 96), 255, np.uint8)
    alone = copy_corners(image, other, np.array([False, False, False, True]), np.random.default_rng(3))
    together = copy_corners(image, other, np.ones(4, bool), np.random.default_rng(3))
    np.testing.assert_array_equal(alone[60:, 60:], together[60:, 60:])


def test_partners_are_of_both_labels_with_equal_chance(partners):
    """Twice as many pneumonias as normals, and still half of the partners are normal."""
    rng = np.random.default_rng(0)
    rows = np.array([partners.draw(rng) for _ in range(4000)])
    assert 0.46 < (rows < 8).mean() < 0.54
    assert set(rows.tolist()) == set(range(24))
    assert {partners.draw(rng, label=0) for _ in range(200)} == set(range(8))
    assert {partners.draw(rng, label=1) for _ in range(400)} == set(range(8, 24))


def test_equal_seeds_give_equal_images(images, partners):
    ranges = {"style": 1.0, "style_corners": 1.0, "rotation": 5, "noise": 0.02}
    for seed in range(4):
        first = drawn(images[0], partners, seed, **ranges)
        np.testing.assert_array_equal(first, drawn(images[0], partners, seed, **ranges))
    assert len({drawn(images[0], partners, seed, **ranges).tobytes() for seed in range(8)}) == 8


def test_with_a_least_share_of_one_the_whole_style_is_that_of_a_partner(images, partners):
    """The histogram comes last, so it is met almost exactly; the shares of all draws are 1."""
    for seed in range(8):
        picture = drawn(images[0], partners, seed, style=1.0, style_least=1.0)
        found = measure_style(picture).cumulative
        distances = [float(np.abs(found - style.cumulative).max()) for style in partners.styles]
        assert min(distances) < 0.05


def test_probabilities_of_zero_leave_the_image(images, partners):
    np.testing.assert_array_equal(random_style(images[0], partners, 0, 0, 0, np.random.default_rng(0)), images[0])
    np.testing.assert_array_equal(drawn(images[0], partners), images[0])


def test_the_style_needs_partners(images):
    with pytest.raises(UsageError, match=r"expected partners with augment\.style or augment\.style_corners, received"):
        drawn(images[0], None, style=0.5)
    with pytest.raises(ValueError, match="a label for each, received 2 and 1"):
        StylePartners.measure(images[:2], np.array([0]), SPEC)
