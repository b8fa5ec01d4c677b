"""What training reads: small images decoded once, features of a frozen backbone, batches in a seeded order."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.data.augment import Augmentation, augment
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.errors import DatasetError, ImageError
from pneumoscope.inference.preprocess import InputSpec, resize, to_input
from pneumoscope.io.cores import available_cores
from pneumoscope.radiographs.images import Radiograph
from pneumoscope.training.cache import cache_key, cached_rows
from pneumoscope.training.distillation import Teacher
from pneumoscope.training.keras_backend import Model, keras
from pneumoscope.training.runs import Progress

#: Cached rows, their numbers and the epoch -> model input, and the teacher's answers if there is a teacher.
Transform = Callable[[np.ndarray, np.ndarray, int], Any]

# The last part of a seed, so that mixup and augmentation draw different random numbers.
_MIXUP, _AUGMENT = 1, 2
_DECODE_BLOCK = 256  # images between two saves of the cache
_FEATURE_BLOCK = 64  # images in a forward pass of the frozen backbone, and between two saves of the cache
# With one thread TensorFlow tunes the reading and waits for its tuner after each epoch: 41 s instead of 21 s.
_WORKERS, _QUEUE_SIZE = 2, 4


def load_pixels(
    manifest: Manifest, records: list[Record], spec: InputSpec, cache_folder: Path, progress: Progress
) -> np.ndarray:
    """Decode and resize every image once; the small 8-bit images are cached on disk.

    Returns:
        (N, height, width) uint8.
    """

    def read(record: Record) -> np.ndarray:
        try:
            return resize(spec.read(manifest.path(record)), spec)
        except ImageError as error:
            raise DatasetError(f"{manifest.path(record)}: {error}") from None

    def blocks(start: int) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(2 * available_cores()) as pool:
            for first in progress(range(start, len(records), _DECODE_BLOCK), None, "decoding images"):
                yield np.stack(list(pool.map(read, records[first : first + _DECODE_BLOCK])))

    # Architectures of every layout share this cache: rows and images differ only after the resizing.
    key = cache_key(
        spec.height, spec.width, spec.aspect, spec.resize, *(image_fingerprint(manifest, r) for r in records)
    )
    shape = (len(records), spec.height, spec.width)
    return cached_rows(cache_folder / f"pixels-{key}.npy", shape, np.uint8, blocks)


def frozen_features(
    frozen: Model, pixels: np.ndarray, spec: InputSpec, cache_folder: Path, progress: Progress
) -> np.ndarray:
    """One pass of the frozen backbone over all images; training then reads its output instead of the images.

    Returns:
        (N, F) float32.
    """

    def blocks(start: int) -> Iterator[np.ndarray]:
        for first in progress(range(start, len(pixels), _FEATURE_BLOCK), None, "frozen features"):
            yield frozen.predict_on_batch(to_input(pixels[first : first + _FEATURE_BLOCK], spec))

    weights = cache_key(*(hashlib.sha256(weight.numpy()).hexdigest() for weight in frozen.weights))
    key = cache_key(weights, spec, hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest())
    shape = (len(pixels), frozen.output.shape[-1])
    return np.asarray(cached_rows(cache_folder / f"features-{key}.npy", shape, np.float32, blocks))


def image_fingerprint(manifest: Manifest, record: Record) -> str:
    """What identifies an image file: its hash, or its path, size and time of writing."""
    if record.sha256:
        return record.sha256
    path = manifest.path(record)
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"expected the image {path} of the manifest: {error.strerror}") from None
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no annotations
    """Batches in an order that depends only on seed and epoch, so that a resumed run repeats it.

    Args:
        inputs: (N, ...) as cached.
        targets: (N, classes) float32, one-hot.
        transform: cached rows, their numbers and the epoch -> model input, see :data:`Transform`.
        batch_size: images in a batch; the last batch may be smaller.
        seed: of the order; None keeps the given order.
        class_weights: (classes,) weight of each class in the loss.
        mixup: alpha of the Beta distribution that mixes each image with another of its batch; 0 turns it off.
        teacher_share: weight of a teacher's answers in the targets; ``transform`` then gives input and answers.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        transform: Transform,
        batch_size: int,
        seed: int | None,
        class_weights: np.ndarray,
        mixup: float = 0.0,
        teacher_share: float = 0.0,
    ):
        super().__init__(workers=_WORKERS, max_queue_size=_QUEUE_SIZE)
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
        return self._mix_up(batch, index) if self.mixup else batch

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of one epoch."""
        self.epoch, count = epoch, len(self.inputs)
        self.order = (
            np.arange(count) if self.seed is None else np.random.default_rng([self.seed, epoch]).permutation(count)
        )

    def _mix_up(
        self, batch: tuple[np.ndarray, np.ndarray, np.ndarray], index: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mixup: convex combinations of two images, of their targets and of their weights."""
        if self.seed is None:
            raise ValueError("expected a seed with mixup, received None")
        rng = np.random.default_rng([self.seed, self.epoch, index, _MIXUP])
        count = len(batch[0])
        share, partner = rng.beta(self.mixup, self.mixup, count).astype(np.float32), rng.permutation(count)

        def mix(part: np.ndarray) -> np.ndarray:
            weight = share.reshape(-1, *[1] * (part.ndim - 1))
            mixed: np.ndarray = part * weight + part[partner] * (1 - weight)
            return mixed

        inputs, targets, weights = batch
        return mix(inputs), mix(targets), mix(weights)


def augmentation_transform(
    spec: InputSpec,
    augmentation: Augmentation,
    seed: int,
    teacher: Teacher | None = None,
    aspect_correction: np.ndarray | None = None,
) -> Transform:
    """Transform for :class:`Batches`; each image of each epoch has a random generator of its own.

    Args:
        spec: input of the student.
        augmentation: how images are changed.
        seed: of the random generators.
        teacher: with a teacher, images are augmented at its input size, and the transform also gives its answers.
        aspect_correction: (N,) a factor for each image, see :func:`pneumoscope.data.aspect_ratio.aspect_corrections`.
    """
    augmented_spec = teacher.spec if teacher else spec

    def transform(pixels: np.ndarray, rows: np.ndarray, epoch: int) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        factors = np.ones(len(rows)) if aspect_correction is None else aspect_correction[rows]
        images = [
            augment(image, augmented_spec, augmentation, np.random.default_rng([seed, epoch, row, _AUGMENT]), factor)
            for image, row, factor in zip(pixels, rows.tolist(), factors.tolist(), strict=True)
        ]
        if teacher is None:
            return to_input(np.stack(images), spec)
        small = np.stack([resize(Radiograph(image), spec) for image in images])
        return to_input(small, spec), teacher.targets(np.stack(images))

    return transform
