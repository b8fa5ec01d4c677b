"""Batches: order, augmentation and mixup depend only on seed, epoch and image."""

import numpy as np
import pytest

from pneumoscope.data.augment import Augmentation, augment
from pneumoscope.inference.preprocess import InputSpec, to_input
from pneumoscope.training.batches import Batches, augmentation_transform

SPEC = InputSpec(height=64, width=64, channels=1)
HOW = Augmentation(crop_side=0.5, rotation=10, flip=0.5, tone=0.5, noise=0.05)


@pytest.fixture
def pixels() -> np.ndarray:
    """(10, 64, 64) uint8, each image a gray of its own with some noise."""
    noise = np.random.default_rng(0).integers(0, 10, (10, 64, 64))
    return (noise + 20 * np.arange(10)[:, None, None]).astype(np.uint8)


def batches(inputs, seed=0, transform=None, mixup=0.0, weights=(2.0, 0.5)) -> Batches:
    targets = np.eye(2, dtype=np.float32)[np.arange(len(inputs)) % 2]
    transform = transform or (lambda batch, rows, epoch: to_input(batch, SPEC))
    return Batches(inputs, targets, transform, 4, seed, np.array(weights), mixup)


def whole(feed, epoch=0):
    feed.start_epoch(epoch)
    return [np.concatenate(parts) for parts in zip(*(feed[index] for index in range(len(feed))), strict=True)]


def test_every_image_comes_once_an_epoch_with_the_weight_of_its_class(pixels):
    feed = batches(pixels)
    assert len(feed) == 3
    for epoch in range(3):
        images, targets, weights = whole(feed, epoch)
        number = np.round((images.mean(axis=(1, 2, 3)) * 255 - 4.5) / 20).astype(int)
        assert sorted(number) == list(range(10))
        np.testing.assert_array_equal(targets.argmax(axis=1), number % 2)
        np.testing.assert_array_equal(weights, np.where(number % 2, 0.5, 2.0))


def test_the_order_depends_on_seed_and_epoch(pixels):
    orders = {(seed, epoch): whole(batches(pixels, seed), epoch)[0].tobytes() for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert whole(batches(pixels, 1), 1)[0].tobytes() == orders[1, 1]
    still = batches(pixels, None)
    assert whole(still, 0)[0].tobytes() == whole(still, 1)[0].tobytes() == to_input(pixels, SPEC).tobytes()


def test_the_changes_of_an_image_depend_on_seed_epoch_and_number_not_on_its_batch(pixels):
    transform = augmentation_transform(SPEC, HOW, seed=3)
    rows = np.arange(10)
    together = transform(pixels, rows, 2)
    assert (together.shape, together.dtype) == ((10, 64, 64, 1), np.float32)
    for row in rows:
        np.testing.assert_array_equal(transform(pixels[row : row + 1], rows[row : row + 1], 2)[0], together[row])
    assert not np.array_equal(transform(pixels, rows, 3), together)
    assert not np.array_equal(augmentation_transform(SPEC, HOW, seed=4)(pixels, rows, 2), together)
    same = transform(np.repeat(pixels[:1], 10, axis=0), rows, 2)  # one picture, ten draws
    assert len({image.tobytes() for image in same}) == 10


def test_each_image_is_widened_by_its_own_factor(pixels):
    factors = np.linspace(0.7, 1.4, 10)
    how = Augmentation(equalize_aspect=1.0)
    rows = np.array([7, 2])
    drawn = augmentation_transform(SPEC, how, 0, aspect_correction=factors)(pixels[rows], rows, 0)
    for image, row in zip(drawn, rows, strict=True):
        alone = augment(pixels[row], SPEC, how, np.random.default_rng(0), factors[row])
        np.testing.assert_array_equal(image, to_input(alone[None], SPEC)[0])


def test_an_empty_augmentation_changes_nothing(pixels):
    plain = augmentation_transform(SPEC, Augmentation(), seed=0)(pixels, np.arange(10), 5)
    assert plain.tobytes() == to_input(pixels, SPEC).tobytes()


def test_mixup_is_a_convex_combination_of_two_images_their_targets_and_weights(pixels):
    """The input is the number of its class, so the same share must appear in input, target and weight."""
    inputs = (np.arange(10) % 2).astype(np.float32)[:, None]
    feed = batches(inputs, transform=lambda batch, rows, epoch: batch, mixup=0.5)
    shares = []
    for epoch in range(20):
        values, targets, weights = whole(feed, epoch)
        assert {part.dtype for part in (values, targets, weights)} == {np.dtype(np.float32)}
        np.testing.assert_allclose(targets, np.concatenate([1 - values, values], axis=1), atol=1e-6)
        np.testing.assert_allclose(weights, targets @ [2.0, 0.5], atol=1e-6)
        shares += values.ravel().tolist()
    mixed = [share for share in shares if 1e-3 < share < 1 - 1e-3]
    assert len(mixed) > 0.2 * len(shares)
    assert min(shares) >= 0
    assert max(shares) <= 1 + 1e-6


def test_mixup_is_drawn_anew_each_epoch_and_repeats(pixels):
    feed = batches(pixels, mixup=0.4)
    first, second = whole(feed, 0)[1], whole(feed, 1)[1]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(whole(batches(pixels, mixup=0.4), 1)[1], second)


class GivenTeacher:
    """Answers with the mean gray of the image, at an input size of its own."""

    spec = InputSpec(height=96, width=96, channels=1)

    def targets(self, images):
        assert images.shape[1:] == (96, 96)
        gray = images.mean(axis=(1, 2), dtype=np.float64) / 255
        return np.stack([1 - gray, gray], axis=1).astype(np.float32)


def test_teacher_and_student_see_the_same_changed_image(pixels):
    rows = np.arange(10)
    large = np.repeat(np.repeat(pixels, 2, axis=1), 2, axis=2)
    inputs, answers, _ = augmentation_transform(SPEC, HOW, 3, GivenTeacher())(large, rows, 2)
    assert (inputs.shape, answers.shape) == ((10, 64, 64, 1), (10, 2))
    np.testing.assert_allclose(inputs.mean(axis=(1, 2, 3)), answers[:, 1], atol=0.005)  # shrinking keeps the mean
    assert answers[:, 1].std() > 0.1


def test_a_target_is_shared_between_label_and_teacher(pixels):
    """A quarter of the teacher's answer, three quarters of the label; the weight stays the label's."""
    answers = np.array([0.8, 0.2], np.float32)
    feed = Batches(
        pixels,
        np.eye(2, dtype=np.float32)[np.arange(10) % 2],
        lambda batch, rows, epoch: (to_input(batch, SPEC), np.tile(answers, (len(batch), 1))),
        4,
        None,
        np.array([2.0, 0.5]),
        teacher_share=0.25,
    )
    images, targets, weights = whole(feed)
    assert images.tobytes() == to_input(pixels, SPEC).tobytes()
    np.testing.assert_allclose(targets[::2], np.tile([0.95, 0.05], (5, 1)), atol=1e-6)
    np.testing.assert_allclose(targets[1::2], np.tile([0.2, 0.8], (5, 1)), atol=1e-6)
    np.testing.assert_array_equal(weights, [2.0, 0.5] * 5)
