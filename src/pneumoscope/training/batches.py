"""What training reads: small images decoded once, features of a frozen part, batches in a seeded order."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pneumoscope.data.augment import Augmentation, augment
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.data.style import StylePartners
from pneumoscope.errors import DatasetError, ImageError
from pneumoscope.inference.preprocess import InputSpec, resize, to_input
from pneumoscope.radiographs.images import Radiograph
from pneumoscope.training.cache import cache_key, cached_rows
from pneumoscope.training.distillation import Teacher
from pneumoscope.training.networks import keras

# Numbers that keep the random generators of one seed apart.
_MIXUP, _AUGMENT = 1, 2
_FEATURE_BLOCK = 64  # images a forward pass of the frozen part, and between two saves of the cache
# With one thread TensorFlow tunes the reading, and waits after each epoch until its tuner wakes: 21 s become 41 s.
_READERS, _READ_AHEAD = 2, 4


def load_pixels(
    manifest: Manifest, records: list[Record], spec: InputSpec, cache_folder: Path, show: Callable
) -> np.ndarray:
    """Decode and resize every image once; the small 8-bit images are kept on disk.

    Returns:
        (N, height, width) uint8.
    """

    def blocks(start: int) -> Iterator[np.ndarray]:
        def one(record: Record) -> np.ndarray:
            try:
                return resize(spec.read(manifest.path(record)), spec)
            except ImageError as error:
                raise DatasetError(f"{manifest.path(record)}: {error}") from None

        with ThreadPoolExecutor() as pool:
            for first in show(range(start, len(records), 256), None, "decoding images"):
                yield np.stack(list(pool.map(one, records[first : first + 256])))

    # One cache serves every layout: rows and images differ after the resizing.
    key = cache_key(
        spec.height, spec.width, spec.aspect, spec.resize, *(image_fingerprint(manifest, r) for r in records)
    )
    shape = (len(records), spec.height, spec.width)
    return cached_rows(cache_folder / f"pixels-{key}.npy", shape, np.uint8, blocks)


def frozen_features(
    frozen: keras.Model, pixels: np.ndarray, spec: InputSpec, cache_folder: Path, show: Callable
) -> np.ndarray:
    """One pass of the frozen part over all images; its output stands for the images from then on.

    Returns:
        (N, F) float32.
    """

    def blocks(start: int) -> Iterator[np.ndarray]:
        for first in show(range(start, len(pixels), _FEATURE_BLOCK), None, "frozen features"):
            yield frozen.predict_on_batch(to_input(pixels[first : first + _FEATURE_BLOCK], spec))

    weights = cache_key(*(hashlib.sha256(weight.numpy()).hexdigest() for weight in frozen.weights))
    key = cache_key(weights, spec, hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest())
    shape = (len(pixels), frozen.output.shape[-1])
    return np.asarray(cached_rows(cache_folder / f"features-{key}.npy", shape, np.float32, blocks))


def image_fingerprint(manifest: Manifest, record: Record) -> str:
    """What tells one image file from another: its hash, or where and when it was written."""
    if record.sha256:
        return record.sha256
    path = manifest.path(record)
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"expected the image {path} of the manifest: {error.strerror}") from None
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


class Batches(keras.utils.PyDataset):
    """Batches in an order that follows from seed and epoch alone, so that a resumed run repeats it.

    Args:
        inputs: (N, ...) as cached.
        targets: (N, classes) float32, one-hot.
        transform: cached rows, their numbers and the epoch -> model input.
        batch_size: images a batch; the last one may be smaller.
        seed: of the order; None keeps the given order.
        class_weights: (classes,) weight of each class in the loss.
        mixup: alpha of the Beta distribution that mixes each image with another of its batch; 0 is none.
        teacher_share: share of a teacher's answers in the targets; ``transform`` then gives input and answers.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        transform: Callable,
        batch_size: int,
        seed: int | None,
        class_weights: np.ndarray,
        mixup: float = 0.0,
        teacher_share: float = 0.0,
    ):
        super().__init__(workers=_READERS, max_queue_size=_READ_AHEAD)
        self.inputs, self.targets, self.transform = inputs, targets, transform
        self.batch_size, self.seed = batch_size, seed
        self.weights, self.mixup = (targets @ class_weights).astype(np.float32), mixup
        self.teacher_share = np.float32(teacher_share)
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])
        inputs, targets = self.transform(self.inputs[rows], rows, self.epoch), self.targets[rows]
        if self.teacher_share:
            inputs, answers = inputs
            targets = self.teacher_share * answers + (1 - self.teacher_share) * targets
        batch = inputs, targets, self.weights[rows]
        return self._mixed(batch, index) if self.mixup else batch

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of one epoch."""
        self.epoch, count = epoch, len(self.inputs)
        self.order = (
            np.arange(count) if self.seed is None else np.random.default_rng([self.seed, epoch]).permutation(count)
        )

    def _mixed(self, batch: tuple, index: int) -> tuple:
        """Mixup: convex combinations of two images, their targets and weights."""
        rng = np.random.default_rng([self.seed, self.epoch, index, _MIXUP])
        count = len(batch[0])
        share, partner = rng.beta(self.mixup, self.mixup, count).astype(np.float32), rng.permutation(count)

        def mix(part: np.ndarray) -> np.ndarray:
            weight = share.reshape(-1, *[1] * (part.ndim - 1))
            return part * weight + part[partner] * (1 - weight)

        return tuple(mix(part) for part in batch)


def augmentation_transform(
    spec: InputSpec,
    how: Augmentation,
    seed: int,
    teacher: Teacher | None = None,
    aspect_correction: np.ndarray | None = None,
    partners: StylePartners | None = None,
) -> Callable:
    """Transform for :class:`Batches`: every image of every epoch is drawn by a generator of its own.

    With a teacher the images are drawn at its size, and come with its answers. ``aspect_correction`` (N,) has a factor for
    each image, see :func:`pneumoscope.data.augment.aspect_corrections`.
    """

    def transform(pixels: np.ndarray, rows: np.ndarray, epoch: int) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        drawn = teacher.spec if teacher else spec
        wide = np.ones(len(rows)) if aspect_correction is None else aspect_correction[rows]
        images = [
            augment(image, drawn, how, np.random.default_rng([seed, epoch, row, _AUGMENT]), factor, partners)
            for image, row, factor in zip(pixels, rows.tolist(), wide.tolist(), strict=True)
        ]
        inputs = to_input(np.stack([resize(Radiograph(image), spec) for image in images] if teacher else images), spec)
        return (inputs, teacher.targets(np.stack(images))) if teacher else inputs

    return transform
