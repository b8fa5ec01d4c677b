"""Run + labelled radiographs -> the batches that are fitted: pixels or features, transforms, targets, weights."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumoscope.data import LungMasks, aspect_corrections
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.data.splits import class_weights
from pneumoscope.data.style import StylePartners
from pneumoscope.errors import DatasetError
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.labels import BACTERIAL, NORMAL, VIRAL, label_index
from pneumoscope.training import networks
from pneumoscope.training.batches import (
    Batches,
    Transform,
    augmentation_transform,
    frozen_features,
    image_fingerprint,
    load_pixels,
    plain_transform,
)
from pneumoscope.training.cache import cache_key
from pneumoscope.training.distillation import Teacher
from pneumoscope.training.keras_backend import Model
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.runs import Progress, Run

#: The two sides of a split.
SIDES = ("train", "val")


@dataclass(frozen=True)
class Inputs:
    """What one training fits, and on what.

    Attributes:
        fitted: the whole model, or its head if the features of a frozen backbone replace the images.
        training: batches of the training images.
        validation: batches of the held-out images; None if the split holds none out.
        decoded_at: ``time.perf_counter()`` when all images were decoded.
        ready_at: the same, when the features were computed.
    """

    fitted: Model
    training: Batches
    validation: Batches | None
    decoded_at: float
    ready_at: float


def prepare_inputs(
    run: Run,
    model: Model,
    manifest: Manifest,
    teacher: Teacher | None,
    cache: bool,
    progress: Progress,
    masks: LungMasks | None = None,
) -> Inputs:
    """Decode the images of a run, compute the features of a frozen backbone, and make the batches.

    Args:
        run: the run to fit.
        model: its network with the starting weights.
        manifest: of the data.
        teacher: of the recipe, if it has one.
        cache: compute the features of a frozen backbone once.
        progress: see :data:`pneumoscope.training.runs.Progress`.
        masks: lung masks, for a network that learns the lung field.
    """
    recipe, cache_folder = run.recipe, run.folder.parent / "cache"
    records = {side: run.split.records(manifest, side) for side in SIDES}
    pixels, arrays = _load_pixels(run, manifest, records, cache_folder, progress)
    sizes = {"train": _source_spec(recipe), "val": run.spec}
    lungs = {side: masks.read(records[side], sizes[side]) if masks else (None, None) for side in SIDES}
    decoded_at = time.perf_counter()

    fitted = model
    transforms: dict[str, Transform] = {side: plain_transform(run.spec, lungs[side][0]) for side in SIDES}
    parts = networks.split_at_features(model) if cache and not recipe.augments else None
    if parts and pixels is not None:
        frozen, fitted = parts
        features = frozen_features(frozen, pixels, run.spec, cache_folder, progress)  # (N, F) float32
        arrays = _cut(features, records)
        transforms = {side: lambda batch, rows, epoch: np.asarray(batch) for side in SIDES}
    elif recipe.augments:
        factors = _aspect_corrections(records["train"], recipe)
        partners = None
        if recipe.augment.needs_partners:
            spec = teacher.spec if teacher else recipe.train_spec
            partners = _style_partners(arrays["train"], records["train"], spec)
        transforms["train"] = augmentation_transform(
            recipe.train_spec, recipe.augment, recipe.seed, teacher, factors, partners, lungs["train"][0]
        )
    ready_at = time.perf_counter()

    training, validation = _make_batches(recipe, records, arrays, transforms, {side: lungs[side][1] for side in SIDES})
    return Inputs(fitted, training, validation, decoded_at, ready_at)


def hash_inputs(
    run: Run, manifest: Manifest, teacher: Teacher | None, masks: LungMasks | None = None
) -> dict[str, str]:
    """Hashes of the files that the recipe only names; a resumed run must find them unchanged."""
    recipe, training = run.recipe, run.split.records(manifest, "train")
    records = [*training, *run.split.records(manifest, "val")]
    weights = Path(recipe.weights)
    hashes = {
        "images_sha256": cache_key(*(image_fingerprint(manifest, record) for record in records)),
        # Other names are weights that Keras downloads and verifies.
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else recipe.weights,
    }
    if teacher:
        hashes["teacher_sha256"] = teacher.bundle.sha256
    if masks:
        hashes["masks_sha256"] = masks.sha256(records)
    if recipe.augment.equalize_aspect:
        hashes["ratios_sha256"] = cache_key(*_aspect_corrections(training, recipe))
    return hashes


def training_class(record: Record, subtypes: bool) -> str:
    """The class that a record has in training: its label, or its sub-label if the network learns sub-types.

    Raises:
        DatasetError: a pneumonia of unknown sub-label.
    """
    if not subtypes or record.label == NORMAL:
        return record.label
    if not record.sublabel:
        raise DatasetError(
            f"expected {BACTERIAL} or {VIRAL} for every pneumonia, {record.path} has neither: "
            "fill the column sublabel of the manifest, or train with subtypes = false"
        )
    return record.sublabel


def _load_pixels(
    run: Run, manifest: Manifest, records: Mapping[str, Sequence[Record]], cache_folder: Path, progress: Progress
) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """The pixels of both sides, (N, height, width) uint8.

    Returns:
        One array of all images, first those that train, and its two parts. Augmentation may need larger training
        images to cut crops from; the sides then have different sizes, and the first is None.
    """
    source = _source_spec(run.recipe)
    if source == run.spec:
        every_record = [record for side in SIDES for record in records[side]]
        pixels = load_pixels(manifest, every_record, run.spec, cache_folder, progress)
        return pixels, _cut(pixels, records)
    specs = {"train": source, "val": run.spec}
    return None, {
        side: load_pixels(manifest, list(records[side]), specs[side], cache_folder, progress)
        for side in SIDES
        if records[side]
    }


def _source_spec(recipe: Recipe) -> InputSpec:
    """The form in which training images are stored before augmentation."""
    size = recipe.source_size if recipe.augments else 0
    return replace(recipe.spec, height=size, width=size) if size else recipe.spec


def _cut(rows: np.ndarray, records: Mapping[str, Sequence[Record]]) -> dict[str, np.ndarray]:
    count = len(records["train"])
    return {"train": rows[:count], "val": rows[count:]}


def _aspect_corrections(records: Sequence[Record], recipe: Recipe) -> np.ndarray:
    """(N,) by how much each training image is widened, see :func:`pneumoscope.data.aspect_ratio.aspect_corrections`."""
    return aspect_corrections([r.ratio for r in records], [r.label for r in records], recipe.augment.equalize_aspect)


def _style_partners(pixels: np.ndarray, records: Sequence[Record], spec: InputSpec) -> StylePartners:
    """The training images as partners of each other; a held-out image lends its style to none."""
    return StylePartners.measure(pixels, np.array([label_index(record.label) for record in records]), spec)


def _make_batches(
    recipe: Recipe,
    records: Mapping[str, Sequence[Record]],
    arrays: Mapping[str, np.ndarray],
    transforms: Mapping[str, Transform],
    has_mask: Mapping[str, np.ndarray | None],
) -> tuple[Batches, Batches | None]:
    """Batches of the training images, and of the held-out images if there are any."""
    classes = recipe.classes
    names = {side: [training_class(record, recipe.subtypes) for record in records[side]] for side in SIDES}
    one_hot = np.eye(len(classes), dtype=np.float32)
    targets = {side: one_hot[[classes.index(name) for name in names[side]]] for side in SIDES}
    weights = np.array(list(class_weights(names["train"], recipe.class_weights, classes).values()))
    training = Batches(
        arrays["train"],
        targets["train"],
        transforms["train"],
        recipe.batch_size,
        recipe.seed,
        weights,
        recipe.mixup,
        recipe.teacher_share,
        has_mask["train"],
    )
    if not records["val"]:
        return training, None
    equal_weights = np.ones(len(classes))
    return training, Batches(
        arrays["val"],
        targets["val"],
        transforms["val"],
        recipe.batch_size,
        None,
        equal_weights,
        has_mask=has_mask["val"],
    )
