"""From a :class:`~pneumoscope.radiographs.Radiograph` to a :class:`Prediction`, and to where the evidence lies.

In: radiographs and a model file. Out: predictions, heatmaps.
Read first: ``preprocess.py`` (radiograph to model input), then ``predict.py`` (model input to verdict). ``bundle.py``
reads the model file, ``sessions.py`` opens its network. Import ``preprocess`` and ``explain`` from their modules, which
have the same names.
This package never imports TensorFlow.
"""

from pneumoscope.inference.bundle import (
    DEFAULT_MODEL,
    EVIDENCE,
    GRADCAM,
    LUNGS,
    PROBABILITIES,
    SCHEMA,
    SUBTYPES,
    Bundle,
    contract_sha256,
    metadata_bytes,
    open_bundle,
    read_bundle,
    scope_of,
    shipped_models,
)
from pneumoscope.inference.calibration import (
    assumed_prevalence,
    calibrate,
    highest_threshold,
    log_odds,
    midpoint_below,
    sigmoid,
)
from pneumoscope.inference.explain import GRAD_CAM, Explanation, class_map, explain_prediction, occlusion_map
from pneumoscope.inference.predict import Predictor, load, parse_threshold
from pneumoscope.inference.prediction import ERROR, FIELDS, OK, UNCERTAIN, Prediction
from pneumoscope.inference.preprocess import INPUT_SPECS, RESIZES, InputSpec, resize, to_input
from pneumoscope.radiographs.images import ImageSource

__all__ = [
    "DEFAULT_MODEL",
    "ERROR",
    "EVIDENCE",
    "FIELDS",
    "GRADCAM",
    "GRAD_CAM",
    "INPUT_SPECS",
    "LUNGS",
    "OK",
    "PROBABILITIES",
    "RESIZES",
    "SCHEMA",
    "SUBTYPES",
    "UNCERTAIN",
    "Bundle",
    "Explanation",
    "ImageSource",
    "InputSpec",
    "Prediction",
    "Predictor",
    "assumed_prevalence",
    "calibrate",
    "class_map",
    "contract_sha256",
    "explain_prediction",
    "highest_threshold",
    "load",
    "log_odds",
    "metadata_bytes",
    "midpoint_below",
    "occlusion_map",
    "open_bundle",
    "parse_threshold",
    "read_bundle",
    "resize",
    "scope_of",
    "shipped_models",
    "sigmoid",
    "to_input",
]
