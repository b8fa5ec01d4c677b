"""The architectures, as short lists of layers (Keras 3 on TensorFlow).

All take the input that :mod:`pneumoscope.inference.preprocess` makes, values in [0, 1], and give the probabilities of
:data:`pneumoscope.labels.LABELS`, or of :data:`pneumoscope.labels.FINDINGS` where sub-types are learnt.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pneumoscope.errors import MissingExtra, RunError
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.labels import LABELS
from pneumoscope.training.recipe import Recipe

os.environ["KERAS_BACKEND"] = "tensorflow"  # the only backend that exports to ONNX through tf2onnx
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no GPU is no error here


@contextmanager
def _silenced() -> Iterator[None]:
    """Hide what TensorFlow 2.21 prints on import, about GPUs, before it reads its own log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


try:
    with _silenced():
        import keras
        from keras import layers

        from pneumoscope.training.fused_lstm import FusedLSTM
except ImportError as error:
    raise MissingExtra("training", "train", error.name or "keras") from None

IMAGENET = "imagenet"
HEAD_UNITS = 128
LSTM_UNITS = 128


def build(recipe: Recipe, *, weights: str | None = IMAGENET, inference: bool = False) -> keras.Model:
    """Build the network of a recipe.

    Args:
        recipe: names the architecture and its options.
        weights: of the MobileNet backbone: ``"imagenet"``, a local file, or None (random).
        inference: without recurrent dropout, which does nothing at inference but keeps an exporter from
            using the native LSTM operator; the weights are the same.
    """
    classes = len(recipe.classes)
    builders: dict[str, Callable[[], keras.Model]] = {
        "mobilenet": lambda: build_mobilenet(
            recipe.spec,
            weights=weights,
            frozen=recipe.trainable == "head",
            frozen_norm=recipe.batch_norm == "frozen",
            dropout=recipe.dropout,
            classes=classes,
        ),
        "lstm": lambda: build_lstm(recipe.spec, recurrent_dropout=0.0 if inference else 0.20, classes=classes),
        "bilstm": lambda: build_bilstm(recipe.spec, dropout=recipe.dropout, classes=classes),
    }
    return builders[recipe.model]()


def build_mobilenet(
    spec: InputSpec,
    *,
    weights: str | None = IMAGENET,
    frozen: bool = True,
    frozen_norm: bool = False,
    dropout: float = 0.0,
    classes: int = len(LABELS),
) -> keras.Model:
    """MobileNet v1 (alpha 1.0) under a small dense head.

    The backbone expects [-1, 1]; the rescaling is a layer, so that the model's own input stays [0, 1] in
    training and in use alike.

    Reference: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications", 2017, table 1.

    Args:
        spec: layout ``"image"``.
        weights: ``"imagenet"`` (downloaded by Keras), a local ``.weights.h5`` file, or None (random).
        frozen: only the head is trained, as published; else every layer.
        frozen_norm: batch normalisation keeps its ImageNet statistics in training, also of a trainable backbone;
            its scale and offset stay with them.
        dropout: before each dense layer of the head.
        classes: 2, or 3 with sub-types.

    Returns:
        (N, height, width, 3) float32 -> (N, classes) float32; the pooled feature map is called ``features``.

    Raises:
        RunError: the weights cannot be had, or are those of another network.
    """
    image = layers.Input(spec.shape, name="image")
    x = layers.Rescaling(2.0, offset=-1.0, name="to_backbone_range")(image)
    backbone = keras.applications.MobileNet(
        include_top=False, input_shape=spec.shape, weights=None, alpha=1.0, name="backbone"
    )
    _load_backbone_weights(backbone, weights)
    if frozen:
        backbone.trainable = False
    for layer in backbone.layers if frozen_norm else ():
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False  # training=False of a call inside a model is overridden by Keras 3's fit
    x = backbone(x)  # (N, h, w, 1024); batch norm that is not trainable keeps its ImageNet statistics
    x = layers.GlobalAveragePooling2D(name="features")(x)  # (N, 1024)
    x = _dropped(x, dropout)
    x = layers.Dense(HEAD_UNITS, activation="relu", name="hidden")(x)
    x = _dropped(x, dropout)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(image, x, name="mobilenet")


def _dropped(x: object, rate: float) -> object:
    return layers.Dropout(rate)(x) if rate else x


def build_lstm(spec: InputSpec, *, recurrent_dropout: float = 0.20, classes: int = len(LABELS)) -> keras.Model:
    """Three LSTM layers over the rows of the image, then four dense ones: the published network.

    Reference: Hochreiter and Schmidhuber, "Long short-term memory", 1997; recurrent dropout as in Gal and
    Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.

    Args:
        spec: layout ``"rows"``.
        recurrent_dropout: on the state, one mask for all steps of a sequence.
        classes: 2, or 3 with sub-types.

    Returns:
        (N, height, width * 3) float32 -> (N, classes) float32.
    """
    dropout = {"dropout": 0.05, "recurrent_dropout": recurrent_dropout}
    rows = layers.Input(spec.shape, name="rows")
    lstm = FusedLSTM if recurrent_dropout else layers.LSTM  # the same numbers, sooner
    x = lstm(250, return_sequences=True, **dropout)(rows)
    x = lstm(120, return_sequences=True, **dropout)(x)
    x = lstm(64, **dropout)(x)
    for units in (250, 120, 64, 28):
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(rows, x, name="lstm")


def build_bilstm(spec: InputSpec, *, dropout: float = 0.0, classes: int = len(LABELS)) -> keras.Model:
    """Two bidirectional LSTM layers over the rows and two over the columns, pooled over all steps.

    The image is standardised first, (x - mean) / deviation, so that exposure carries little. Mean and maximum
    over the steps replace the last state, which remembers the lowest rows best.

    Reference: Graves and Schmidhuber, "Framewise phoneme classification with bidirectional LSTM", 2005; rows
    and columns after Visin et al., "ReNet: A recurrent neural network based alternative to convolutional
    networks", 2015.

    Args:
        spec: layout ``"rows"``, one channel, square.
        dropout: between the layers and before the dense ones.
        classes: 2, or 3 with sub-types.

    Returns:
        (N, height, width) float32 -> (N, classes) float32.
    """
    rows = layers.Input(spec.shape, name="rows")
    standard = layers.LayerNormalization(axis=(1, 2), center=False, scale=False, name="standardised")(rows)
    pooled = []
    for name, x in (("rows", standard), ("columns", layers.Permute((2, 1), name="transposed")(standard))):
        for depth in (1, 2):
            lstm = layers.LSTM(LSTM_UNITS, return_sequences=True, name=f"lstm_{name}_{depth}")
            x = layers.Bidirectional(lstm, name=f"both_ways_{name}_{depth}")(_dropped(x, dropout if depth > 1 else 0))
        pooled += [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)]  # (N, 2 * LSTM_UNITS) each
    x = _dropped(layers.Concatenate()(pooled), dropout)
    x = _dropped(layers.Dense(HEAD_UNITS, activation="relu", name="hidden")(x), dropout)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(rows, x, name="bilstm")


def split_at_features(model: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """The frozen backbone and the trainable head of a model, sharing its layers; None where nothing is frozen.

    ``head(frozen(x))`` equals ``model(x)``, and training the head trains the model.
    """
    names = [layer.name for layer in model.layers]
    if "features" not in names or model.get_layer("backbone").trainable:
        return None
    at = names.index("features")
    frozen = keras.Model(model.input, model.layers[at].output, name="frozen")
    x = features = layers.Input(frozen.output.shape[1:], name="pooled")
    for layer in model.layers[at + 1 :]:
        x = layer(x)
    return frozen, keras.Model(features, x, name="head")


def _load_backbone_weights(backbone: keras.Model, weights: str | None) -> None:
    if weights is None:
        return
    if weights == IMAGENET:
        try:
            source = keras.applications.MobileNet(include_top=False, weights=IMAGENET, input_shape=(224, 224, 3))
        except Exception as error:  # Keras re-raises what its downloader met: URLError, OSError, bare Exception
            raise RunError(
                f"expected to download the ImageNet weights, Keras says {error}: give a local copy with  --weights FILE"
            ) from None
        backbone.set_weights(source.get_weights())
        return
    if not Path(weights).is_file():
        raise RunError(f"expected MobileNet weights at {weights}, found no file: check --weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers it leaves random
            backbone.load_weights(weights)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        first_line = str(error).strip().splitlines()[0]
        raise RunError(
            f"expected the ImageNet MobileNet v1 (alpha 1.0, no top) at {weights}, Keras says {first_line}: "
            "see docs/how-to.md for the file it wants"
        ) from None
