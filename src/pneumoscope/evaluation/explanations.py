"""Do the maps of a model show what its verdict depends on? Tests on held-out radiographs with the verdict PNEUMONIA.

``deletion``
    The cells of the map are replaced, the strongest first, by those of the most similar normal radiograph. The figure
    is the area under the log odds of PNEUMONIA by the share of replaced cells, divided by the fall from the first to
    the last: small where the map finds what matters. A blurred or gray image in its place would not do: these models
    take what has no structure for an opacity.
``insertion``
    The reverse: the normal radiograph gets the cells of the image, the strongest first. Large where the map finds what
    matters.
``stability``
    Spearman correlation of the map with that of the same image moved by a few pixels, moved back; and with that of the
    image a little brighter.
``randomised``
    Spearman correlation with the map of the same network with random weights in its last layers. A map that does not
    change shows the image, not the model.

The same measurements are made with maps that know nothing, cells in random order and a centred blob, and with occlusion
sensitivity, which asks the model once for every cell.

Reference: Petsiuk, Das and Saenko, "RISE", 2018 (deletion and insertion); Adebayo et al., "Sanity checks for saliency
maps", 2018 (random weights); Arun et al., "Assessing the trustworthiness of saliency maps for localizing abnormalities
in medical imaging", 2021.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pneumoscope.data import Manifest, Record
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation.bootstrap import RESAMPLES, mean_by_patient
from pneumoscope.inference import (
    EVIDENCE,
    GRADCAM,
    PROBABILITIES,
    Predictor,
    log_odds,
    occlusion_map,
    resize,
    to_input,
)
from pneumoscope.labels import NORMAL, PNEUMONIA, POSITIVE
from pneumoscope.radiographs import read_radiograph

#: Maps that are compared: the model's own, occlusion sensitivity, and two that know nothing.
OWN, OCCLUSION, BLOB, RANDOM = "own", "occlusion", "centred blob", "random"

_STEPS = 12  # points of a curve after the first
_MAX_NORMALS = 200
_THUMBNAIL = 16  # pixels, for the similarity of two radiographs
_BLOB = 0.25  # standard deviation, as a share of the side
_SHIFT = 0.03  # of the side
_BRIGHTER = 1.08
_MARGIN = 1e-7  # a probability of exactly 0 or 1 has no log odds


def measure_explanations(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    randomised: Predictor | None = None,
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Test the maps for PNEUMONIA.

    Args:
        predictor: the model.
        manifest: has the folder of the records.
        records: radiographs that the model was not trained on; the maps of those with label and verdict PNEUMONIA are
            tested, and those with label and verdict NORMAL lend their cells.
        randomised: the same network with random weights in its last layers; without it, that test is left out.
        progress: wraps the iteration, ``progress(items, total, what)``.
        seed: of the random order and of the bootstrap over patients.
        resamples: of the bootstrap.

    Returns:
        ``images``, and estimates: ``deletion`` and ``insertion``, each by map; ``shifted`` and ``brighter``;
        ``randomised``, None without such a model.

    Raises:
        DatasetError: no image has label and verdict PNEUMONIA, or NORMAL, or the model has no maps.
    """
    rng = np.random.default_rng(seed)
    normals = _read_normals(predictor, manifest, records)
    thumbnails = np.stack([_thumbnail(image) for image in normals])
    rows: Iterable[Record] = progress(records, len(records), "testing maps") if progress else records
    groups, figures = [], []
    for record in rows:
        if record.label != PNEUMONIA:
            continue
        found = _test_one(predictor, manifest, record, normals, thumbnails, randomised, rng)
        if found is not None:
            groups.append(record.group or record.path)
            figures.append(found)
    if not figures:
        raise DatasetError("expected pneumonias that the model finds, with maps; found none")
    estimates = {
        name: mean_by_patient(np.array([figure[name] for figure in figures]), np.array(groups), seed, resamples)
        for name in figures[0]
    }
    maps = (OWN, OCCLUSION, BLOB, RANDOM)
    return {
        "images": len(figures),
        **{test: {name: estimates[f"{test} {name}"] for name in maps} for test in ("deletion", "insertion")},
        **{name: estimates[name] for name in ("shifted", "brighter")},
        "randomised": estimates.get("randomised"),
    }


def _test_one(
    predictor: Predictor,
    manifest: Manifest,
    record: Record,
    normals: np.ndarray,
    thumbnails: np.ndarray,
    randomised: Predictor | None,
    rng: np.random.Generator,
) -> dict[str, float] | None:
    """The figures of one image; None if its verdict is another, or the model has no map for it."""
    spec = predictor.bundle.spec
    radiograph = read_radiograph(manifest.path(record), any_age=True)
    pixels = resize(radiograph, spec)
    own = _map_of(predictor, pixels)
    if own is None or own.max() <= 0:
        return None
    maps = {
        OWN: own,
        OCCLUSION: _fit(occlusion_map(predictor, radiograph, PNEUMONIA), own.shape),
        BLOB: _blob(own.shape),
        RANDOM: rng.random(own.shape),
    }
    found = {}
    normal = _most_similar(normals, thumbnails, pixels)
    for name, one in maps.items():
        found[f"deletion {name}"], found[f"insertion {name}"] = _curves(predictor, pixels, normal, one)
    step = max(1, round(_SHIFT * spec.width))
    moved = _map_of(predictor, np.roll(pixels, step, axis=1))
    found["shifted"] = _correlation(own, _move_back(moved, step * own.shape[1] / spec.width))
    brighter = np.clip(pixels.astype(np.float32) * _BRIGHTER, 0, 255).astype(np.uint8)
    found["brighter"] = _correlation(own, _map_of(predictor, brighter))
    if randomised is not None:
        found["randomised"] = _correlation(own, _map_of(randomised, pixels))
    return found


def _map_of(predictor: Predictor, pixels: np.ndarray) -> np.ndarray | None:
    """(h, w) map for PNEUMONIA of (height, width) uint8; None for another verdict, or without a map."""
    bundle = predictor.bundle
    outputs = bundle.run(to_input(pixels[None], bundle.spec))
    if outputs[PROBABILITIES][0, POSITIVE] < predictor.threshold:
        return None
    if EVIDENCE in outputs:
        return np.maximum(np.asarray(outputs[EVIDENCE][0], np.float64), 0)
    return np.asarray(outputs[GRADCAM][0, POSITIVE], np.float64) if GRADCAM in outputs else None


def _read_normals(predictor: Predictor, manifest: Manifest, records: Sequence[Record]) -> np.ndarray:
    """(N, height, width) uint8: radiographs with label and verdict NORMAL."""
    spec = predictor.bundle.spec
    found: list[np.ndarray] = []
    for record in records:
        if record.label == NORMAL and len(found) < _MAX_NORMALS:
            pixels = resize(read_radiograph(manifest.path(record), any_age=True), spec)
            if _log_odds(predictor, pixels[None])[0] < 0:
                found.append(pixels)
    if not found:
        raise DatasetError("expected normal radiographs that the model calls NORMAL, found none")
    return np.stack(found)


def _most_similar(normals: np.ndarray, thumbnails: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The (height, width) uint8 of (N, height, width) whose thumbnail correlates best with that of the image."""
    return np.asarray(normals[int((thumbnails @ _thumbnail(pixels)).argmax())])


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """(F,) float of mean 0 and length 1: the product of two is their correlation."""
    small = _fit(image, (_THUMBNAIL, _THUMBNAIL)).ravel()
    small = small - small.mean()
    return np.asarray(small / (np.linalg.norm(small) + 1e-9))


def _curves(predictor: Predictor, pixels: np.ndarray, normal: np.ndarray, order_by: np.ndarray) -> tuple[float, float]:
    """Areas under the curves of deletion and insertion, each from 0 (at the first image) to 1 (at the last)."""
    import cv2

    height, width = pixels.shape
    ranks = np.empty(order_by.size)
    ranks[np.argsort(-order_by, axis=None, kind="stable")] = np.arange(order_by.size) / order_by.size
    place = cv2.resize(ranks.reshape(order_by.shape), (width, height), interpolation=cv2.INTER_NEAREST)
    shares = np.linspace(0, 1, _STEPS + 1)
    images = [np.where(place < share, normal, pixels) for share in shares]
    images += [np.where(place < share, pixels, normal) for share in shares]
    odds = _log_odds(predictor, np.stack(images))
    whole, empty = odds[0], odds[_STEPS]
    if whole - empty < 1:  # both are near the threshold: there is nothing to find
        return float("nan"), float("nan")
    areas = [np.trapezoid((curve - empty) / (whole - empty), shares) for curve in np.split(odds, 2)]
    return float(areas[0]), float(areas[1])


def _log_odds(predictor: Predictor, images: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 -> (N,) log odds of PNEUMONIA."""
    bundle = predictor.bundle
    return log_odds(bundle.run(to_input(images, bundle.spec))[PROBABILITIES][:, POSITIVE], margin=_MARGIN)


def _fit(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    import cv2

    return np.asarray(cv2.resize(small.astype(np.float64), shape[::-1], interpolation=cv2.INTER_AREA))


def _blob(shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = (np.linspace(-0.5, 0.5, side) for side in shape)
    return np.asarray(np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * _BLOB**2)))


def _move_back(moved: np.ndarray | None, cells: float) -> np.ndarray | None:
    """Move a map to the left by a part of a cell."""
    import cv2

    if moved is None:
        return None
    matrix = np.array([[1, 0, -cells], [0, 1, 0]], np.float64)
    return np.asarray(cv2.warpAffine(moved, matrix, moved.shape[::-1], borderMode=cv2.BORDER_REPLICATE))


def _correlation(first: np.ndarray, second: np.ndarray | None) -> float:
    """Spearman correlation of two maps; NaN where one is constant or missing."""
    if second is None or second.shape != first.shape:
        return float("nan")
    a, b = (_ranks(one.ravel()) for one in (first, second))
    if not a.std() or not b.std():
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties with their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[inverse])
