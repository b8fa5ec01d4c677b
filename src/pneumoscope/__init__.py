"""pneumoscope: detects pneumonia in chest radiographs. Research use only, not a medical device.

    from pneumoscope import load
    prediction = load().predict("radiograph.jpeg")
    print(prediction.label, prediction.probability)

The names in ``__all__`` are the stable Python API. Everything else may change between versions.
Importing this package is cheap: TensorFlow, ONNX Runtime, OpenCV and matplotlib are not loaded.
"""

import os
from typing import TYPE_CHECKING

from pneumoscope.lazy_exports import lazy_exports

if TYPE_CHECKING:  # the same names for type checkers and editors, which do not run __getattr__
    from pneumoscope.errors import PneumoscopeError
    from pneumoscope.inference.explain import explain
    from pneumoscope.inference.predict import Predictor, load
    from pneumoscope.inference.prediction import Prediction
    from pneumoscope.inference.preprocess import InputSpec
    from pneumoscope.labels import LABELS
    from pneumoscope.output.overlay import write_overlay
    from pneumoscope.radiographs.images import Radiograph, read_radiograph
    from pneumoscope.samples import sample_paths

# Since version 1.29, ONNX Runtime sends usage data to its maker: details of session and model, and an identifier that
# it keeps on disk. This has to be disabled before ONNX Runtime is loaded. To allow it, set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

RESEARCH_USE_ONLY = "Research use only, not a medical device."

# name -> module that defines it; imported on first use
_PUBLIC = {
    "load": "inference.predict",
    "Predictor": "inference.predict",
    "Prediction": "inference.prediction",
    "explain": "inference.explain",
    "write_overlay": "output.overlay",
    "Radiograph": "radiographs.images",
    "read_radiograph": "radiographs.images",
    "InputSpec": "inference.preprocess",
    "sample_paths": "samples",
    "PneumoscopeError": "errors",
    "LABELS": "labels",
}

__all__ = [
    "LABELS",
    "RESEARCH_USE_ONLY",
    "InputSpec",
    "PneumoscopeError",
    "Prediction",
    "Predictor",
    "Radiograph",
    "__version__",
    "explain",
    "load",
    "read_radiograph",
    "sample_paths",
    "write_overlay",
]

__getattr__ = lazy_exports(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
