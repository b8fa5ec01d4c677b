"""Keras 3 on TensorFlow, loaded here once for all modules of the training.

Neither library ships annotations that a type checker can use. In signatures :data:`Model` and :data:`Tensor` say what
is meant; to the type checker both are ``Any``.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pneumoscope.errors import MissingExtra

os.environ["KERAS_BACKEND"] = "tensorflow"  # the only backend that exports to ONNX through tf2onnx
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # a machine without a GPU is not an error here

__all__ = ["Model", "Tensor", "keras", "tf"]

#: A ``keras.Model``.
Model = Any
#: A tensor of TensorFlow, or a symbolic one of Keras while a network is built.
Tensor = Any


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Hide what TensorFlow 2.21 prints about GPUs on import, before it reads its own log level."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step of a training.

    By default glibc gives the large tensors of each step back to the system, which then clears every page again: on two
    cores this was up to 40 % of the processor time of a training. See mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # names of the options in malloc.h
    mallopt(trim_threshold, -1)
    mallopt(mmap_max, 0)
    mallopt(arena_max, 1)


_keep_freed_memory()
try:
    with _quiet_import():
        import keras
        import tensorflow as tf
except ImportError as error:
    raise MissingExtra("training", "train", error.name or "keras") from None

# ~/.keras/keras.json may have other defaults. Layouts, weights and losses of this package are of these.
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_dtype_policy("float32")
keras.config.set_epsilon(1e-7)
