"""The Keras side of ``folder_speed.py``: one image after the other as in the notebook, and ``tf.data``."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import cv2
import keras
import numpy as np
import tensorflow as tf
from keras_gradcam import gradcam, gradcam_model
from protocol import answer, settings


def main() -> None:
    config = settings()
    tf.config.threading.set_intra_op_parallelism_threads(config["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(config["threads"])
    files, size = config["files"], config["size"]
    model = keras.models.load_model(config["folder"] + "/network.keras")
    parts = gradcam_model(model)

    def one_by_one() -> int:
        return len([model.predict(read(path, size), verbose=0)[0, 1] for path in files])

    def pipeline() -> int:
        return len(model.predict(dataset(files, size, config["batch"]), verbose=0))

    def tape() -> int:
        return len([gradcam(parts, read(path, size)) for path in files])

    answer({"one by one": one_by_one, "tf.data": pipeline, "tape": tape}, ("tensorflow", "keras"))


def read(path: str, size: int) -> np.ndarray:
    """As in the notebook: (1, size, size, 3) float32 in [0, 1]."""
    return (cv2.resize(cv2.imread(path), (size, size)) / 255.0).astype(np.float32)[None]


def dataset(files: list[str], size: int, batch: int) -> tf.data.Dataset:
    """Decode in gray, resize, make three channels; batches are prepared while the network runs."""

    def load(path: tf.Tensor) -> tf.Tensor:
        gray = tf.io.decode_jpeg(tf.io.read_file(path), channels=1)
        return tf.image.grayscale_to_rgb(tf.image.resize(gray, (size, size)) / 255)

    images = tf.data.Dataset.from_tensor_slices(files).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return images.batch(batch).prefetch(tf.data.AUTOTUNE)


if __name__ == "__main__":
    main()
