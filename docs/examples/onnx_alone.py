"""Read chest radiographs with a shipped model file, without pneumoscope.

    python onnx_alone.py mobilenet.onnx radiograph.jpeg [MORE.jpeg ...]

Needs NumPy, OpenCV, simplejpeg and ONNX Runtime. Prints the digits that ``load(MODEL).predict(FILE)`` gives for the
same JPEG files. It reads gray and colour JPEGs that are upright. It does not check the images, and it does not verify
the model file: pneumoscope does both. Research use only, not a medical device.
"""

import json
import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # without this, ONNX Runtime 1.29 and later report their use to their maker

import cv2
import numpy as np
import onnxruntime
import simplejpeg


def open_model(path: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """The network, and the contract from the file's metadata."""
    options = onnxruntime.SessionOptions()
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists() or not {"avx512_vnni", "avx_vnni"} & set(cpu.read_text().split()):
        # Without VNNI instructions, int8 products can overflow in 16 bits. This option makes them exact.
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["pneumoscope"])


def read_gray(path: str, resize: str) -> np.ndarray:
    """A JPEG as (H, W) uint8. ``scaled-224`` decodes it at the smallest scale with 320 pixels a side."""
    data = Path(path).read_bytes()
    least = 320 if resize == "scaled-224" else 0
    is_gray = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
    pixels = simplejpeg.decode_jpeg(data, "GRAY" if is_gray else "RGB", min_height=least, min_width=least)
    return pixels[:, :, 0] if is_gray else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def squash(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize without keeping the aspect ratio: sides that shrink by area, then sides that grow linearly."""
    rows, columns = pixels.shape
    smaller = (min(width, columns), min(height, rows))
    if smaller != (columns, rows):
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels


def to_input(pixels: np.ndarray, spec: dict) -> np.ndarray:
    """(H, W) uint8 -> the network's input with a batch axis, float32 in [0, 1]."""
    if spec["resize"] != "area":  # "area-224" and "scaled-224" make every image at most 224 pixels a side first
        pixels = squash(pixels, min(224, pixels.shape[1]), min(224, pixels.shape[0]))
    pixels = squash(pixels, spec["width"], spec["height"])
    unit = pixels.astype(np.float32) / np.float32(255)
    channels = np.repeat(unit[..., None], spec["channels"], axis=-1)  # (height, width, channels)
    return channels.reshape(1, spec["height"], -1) if spec["layout"] == "rows" else channels[None]


def main(model: str, *images: str) -> None:
    """Print path, label and probability of pneumonia for each image."""
    session, contract = open_model(model)
    spec, labels = contract["input"], contract["labels"]
    for image in images:
        values = to_input(read_gray(image, spec["resize"]), spec)
        (probabilities,) = session.run(["probabilities"], {session.get_inputs()[0].name: values})
        probability = float(probabilities[0, labels.index("PNEUMONIA")])
        label = "PNEUMONIA" if probability >= contract["threshold"] else "NORMAL"
        print(image, label, repr(probability), sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
