"""Grad-CAM by automatic differentiation, as notebooks do it. As a script: the notebook's steps for one image.

python keras_gradcam.py NETWORK IMAGE OUT
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import cv2
import keras
import numpy as np
import tensorflow as tf


def main() -> None:
    network, image, out = sys.argv[1:]
    model = keras.models.load_model(network)
    size = model.input_shape[1]
    picture = cv2.imread(image)
    x = (cv2.resize(picture, (size, size)) / 255.0).astype(np.float32)[None]
    print("PNEUMONIA" if model.predict(x, verbose=0)[0, 1] >= 0.5 else "NORMAL")
    heatmap = cv2.resize(gradcam(gradcam_model(model), x), (picture.shape[1], picture.shape[0]))
    colours = cv2.applyColorMap(np.uint8(255 * heatmap), cv2.COLORMAP_JET)
    cv2.imwrite(out, cv2.addWeighted(picture, 0.6, colours, 0.4, 0))


def gradcam_model(model: keras.Model) -> keras.Model:
    """The network with its last feature map as an output beside the probabilities."""
    return keras.Model(model.input, [model.get_layer("features").input, model.output])


def gradcam(parts: keras.Model, x: np.ndarray) -> np.ndarray:
    """(1, size, size, 3) -> (size, size) float32 in [0, 1]: the evidence for the second class."""
    with tf.GradientTape() as tape:
        features, probabilities = parts(x)
        score = probabilities[:, 1]
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2))
    heatmap = tf.nn.relu(tf.einsum("nijk,nk->nij", features, weights))[0].numpy()
    return cv2.resize(heatmap / max(float(heatmap.max()), 1e-9), x.shape[1:3])


if __name__ == "__main__":
    main()
