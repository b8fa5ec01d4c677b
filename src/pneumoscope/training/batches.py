"""What training reads: small images decoded once, features of a frozen backbone, batches in a seeded order."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pneumoscope.data import to_cells
from pneumoscope.data.augment import Augmentation, augment_with_mask
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.data.style import StylePartners
from pneumoscope.errors import DatasetError, ImageError
from pneumoscope.inference import LUNGS, PROBABILITIES
from pneumoscope.inference.preprocess import InputSpec, resize, to_input
from pneumoscope.io.cores import available_cores
from pneumoscope.radiographs.images import Radiograph
from pneumoscope.training.cache import cache_key, cached_rows
from pneumoscope.training.distillation import Teacher
from pneumoscope.training.keras_backend import Model, keras
from pneumoscope.training.runs import Progress


class Drawn(NamedTuple):
    """What a transform makes of the images of a batch.

    Attributes:
        inputs: of the model.
        answers: of a teacher, (N, classes) float32; None without one.
        lungs: (N, h, w) float32, the share of lung in each cell; None for a network that learns no lungs.
    """

    inputs: np.ndarray
    answers: np.ndarray | None = None
    lungs: np.ndarray | None = None


#: Cached rows, their numbers and the epoch -> model input, or :class:`Drawn` with what else is learnt from.
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
        has_mask: (N,) float32, 1 for images with a lung mask, 0 for others, whose lungs are not learnt from; needed if
            ``transform`` gives lungs.
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
        has_mask: np.ndarray | None = None,
    ):
        super().__init__(workers=_WORKERS, max_queue_size=_QUEUE_SIZE)
        self.inputs, self.targets, self.transform = inputs, targets, transform
        self.batch_size, self.seed = batch_size, seed
        self.weights, self.mixup = (targets @ class_weights).astype(np.float32), mixup
        self.teacher_share = np.float32(teacher_share)
        self.has_mask = has_mask
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        rows = np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])
        transformed, targets = self.transform(self.inputs[rows], rows, self.epoch), self.targets[rows]
        drawn = Drawn(*transformed) if isinstance(transformed, tuple) else Drawn(transformed)
        if self.teacher_share and drawn.answers is not None:
            targets = self.teacher_share * drawn.answers + (1 - self.teacher_share) * targets
        batch = drawn.inputs, targets, self.weights[rows]
        if drawn.lungs is not None and self.has_mask is not None:
            weights = {PROBABILITIES: batch[2], LUNGS: self.has_mask[rows]}
            return drawn.inputs, {PROBABILITIES: targets, LUNGS: drawn.lungs}, weights
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
    partners: StylePartners | None = None,
    masks: np.ndarray | None = None,
) -> Transform:
    """Transform for :class:`Batches`; each image of each epoch has a random generator of its own.

    Args:
        spec: input of the student.
        augmentation: how images are changed.
        seed: of the random generators.
        teacher: with a teacher, images are augmented at its input size, and the transform also gives its answers.
        aspect_correction: (N,) a factor for each image, see :func:`pneumoscope.data.aspect_ratio.aspect_corrections`.
        partners: radiographs that lend their style, at the size at which images are augmented.
        masks: (N, H, W) uint8 lung masks, of the size of the cached images.
    """
    augmented_spec = teacher.spec if teacher else spec

    def transform(pixels: np.ndarray, rows: np.ndarray, epoch: int) -> np.ndarray | Drawn:
        factors = np.ones(len(rows)) if aspect_correction is None else aspect_correction[rows]
        pairs = [
            augment_with_mask(
                image,
                None if masks is None else masks[row],
                augmented_spec,
                augmentation,
                np.random.default_rng([seed, epoch, row, _AUGMENT]),
                factor,
                partners,
            )
            for image, row, factor in zip(pixels, rows.tolist(), factors.tolist(), strict=True)
        ]
        images = np.stack([image for image, _ in pairs])
        lungs = None if masks is None else np.stack([to_cells(mask, spec) for _, mask in pairs if mask is not None])
        if teacher is None:
            return to_input(images, spec) if lungs is None else Drawn(to_input(images, spec), None, lungs)
        small = np.stack([resize(Radiograph(image), spec) for image in images])
        return Drawn(to_input(small, spec), teacher.targets(images), lungs)

    return transform


def plain_transform(spec: InputSpec, masks: np.ndarray | None = None) -> Transform:
    """Transform without any change: the prediction path.

    Args:
        spec: input of the model.
        masks: (N, height, width) uint8 lung masks of the images.
    """

    def transform(pixels: np.ndarray, rows: np.ndarray, epoch: int) -> np.ndarray | Drawn:
        inputs = to_input(pixels, spec)
        return inputs if masks is None else Drawn(inputs, None, np.stack([to_cells(masks[row], spec) for row in rows]))

    return transform
