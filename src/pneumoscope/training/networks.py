"""The architectures, as short lists of layers.

Each takes the input that :mod:`pneumoscope.inference.preprocess` makes, values in [0, 1], and gives the
probabilities of :data:`pneumoscope.labels.LABELS`, or of :data:`pneumoscope.labels.FINDINGS` if sub-types are learnt.

A new architecture takes two entries under one name: its input in
:data:`pneumoscope.inference.preprocess.INPUT_SPECS`, and a function here that builds it, in :data:`BUILDERS`. The layer
``probabilities`` is its softmax; ``features`` and ``hidden``, where present, make the Grad-CAM maps (see
:mod:`pneumoscope.training.export.inference_graph`). Exported files depend on these layer names.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pneumoscope.errors import RunError
from pneumoscope.inference import LUNGS, PROBABILITIES
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.labels import LABELS
from pneumoscope.training.fast_layers import use_fast_layers
from pneumoscope.training.fused_lstm import FusedLSTM
from pneumoscope.training.keras_backend import Model, Tensor, keras
from pneumoscope.training.lung_layers import Enlarged, LungField, LungPooling
from pneumoscope.training.recipe import Recipe

layers = keras.layers

IMAGENET = "imagenet"
HEAD_UNITS = 128
LOCAL_UNITS = 256
LSTM_UNITS = 128


def build(recipe: Recipe, *, weights: str | None = IMAGENET, inference: bool = False) -> Model:
    """Build the network of a recipe.

    Args:
        recipe: gives the architecture and its options.
        weights: of the MobileNet backbone: ``"imagenet"``, a local file, or None (random).
        inference: with the layers that are exported, not those that train fast, and without recurrent dropout. It does
            nothing at inference, but it keeps an exporter from using the native LSTM operator. The weights are the
            same.
    """
    return BUILDERS[recipe.model](recipe, weights, inference)


def build_mobilenet(
    spec: InputSpec,
    *,
    weights: str | None = IMAGENET,
    frozen: bool = True,
    frozen_norm: bool = False,
    dropout: float = 0.0,
    classes: int = len(LABELS),
    fast: bool = False,
    any_size: bool = False,
) -> Model:
    """MobileNet v1 (alpha 1.0) with a small dense head.

    The backbone expects values in [-1, 1]. The rescaling is a layer, so that the input of the model is in [0, 1] both
    in training and in use.

    Reference: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications", 2017, table 1.

    Args:
        spec: layout ``"image"``.
        weights: ``"imagenet"`` (downloaded by Keras), a local ``.weights.h5`` file, or None (random).
        frozen: train only the head, as published; otherwise train every layer.
        frozen_norm: batch normalisation keeps its ImageNet statistics, scale and offset in training, even in a
            trainable backbone.
        dropout: before each dense layer of the head.
        classes: 2, or 3 with sub-types.
        fast: a trainable backbone has the layers of :mod:`pneumoscope.training.fast_layers`.
        any_size: images may have any size, not only that of ``spec``.

    Returns:
        (N, height, width, 3) float32 -> (N, classes) float32; the pooled feature map is called ``features``.

    Raises:
        RunError: the weights cannot be downloaded or read, or belong to another network.
    """
    shape = _image_shape(spec, any_size)
    image = layers.Input(shape, name="image")
    x = layers.Rescaling(2.0, offset=-1.0, name="to_backbone_range")(image)
    backbone = keras.applications.MobileNet(
        include_top=False, input_shape=shape, weights=None, alpha=1.0, name="backbone"
    )
    _load_backbone_weights(backbone, weights)
    x = _prepare_backbone(backbone, frozen, frozen_norm, fast)(x)  # (N, h, w, 1024)
    x = layers.GlobalAveragePooling2D(name="features")(x)  # (N, 1024)
    x = _dropout(x, dropout)
    x = layers.Dense(HEAD_UNITS, activation="relu", name="hidden")(x)
    x = _dropout(x, dropout)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(image, x, name="mobilenet")


def build_lung_mobilenet(
    spec: InputSpec,
    *,
    weights: str | None = IMAGENET,
    frozen: bool = False,
    frozen_norm: bool = False,
    dropout: float = 0.0,
    classes: int = len(LABELS),
    fast: bool = False,
    any_size: bool = False,
    power: float = 1.0,
) -> Model:
    """MobileNet v1 whose verdict comes from the lungs: a lung field, and local evidence that is pooled over it.

    The features of stride 16 (block 11) are joined by those of stride 32, enlarged. A field and one map for each class
    come from them; :mod:`pneumoscope.training.lung_layers` has the formulas.

    Args:
        spec: layout ``"image"``, sides a multiple of 32.
        weights, frozen, frozen_norm, dropout, classes, fast, any_size: as for :func:`build_mobilenet`.
        power: of the lung field in the pooling.

    Returns:
        (N, height, width, 3) float32 -> ``probabilities`` (N, classes) and ``lungs`` (N, height / 16, width / 16).
    """
    shape = _image_shape(spec, any_size)
    image = layers.Input(shape, name="image")
    x = layers.Rescaling(2.0, offset=-1.0, name="to_backbone_range")(image)
    fine, coarse = _two_scale_backbone(shape, weights, frozen, frozen_norm, fast)(x)
    coarse = layers.Conv2D(LOCAL_UNITS, 1, name="coarse")(coarse)
    coarse = Enlarged(name="enlarged")(coarse)
    x = layers.Add(name="joined")([layers.Conv2D(LOCAL_UNITS, 1, name="fine")(fine), coarse])
    x = layers.ReLU(name="local")(x)  # (N, h, w, LOCAL_UNITS)
    field = layers.SeparableConv2D(HEAD_UNITS, 3, padding="same", activation="relu", name="lung_features")(x)
    field = layers.Conv2D(1, 1, activation="sigmoid", name="lung_map")(field)
    lungs = LungField(name=LUNGS)(field)
    x = layers.Conv2D(HEAD_UNITS, 1, activation="relu", name="local_hidden")(_dropout(x, dropout))
    maps = layers.Conv2D(classes, 1, use_bias=False, name="class_maps")(_dropout(x, dropout))
    logits = LungPooling(power, name="logits")([maps, lungs])
    probabilities = layers.Activation("softmax", name=PROBABILITIES)(logits)
    return keras.Model(image, {PROBABILITIES: probabilities, LUNGS: lungs}, name="mobilenet_lungs")


def _image_shape(spec: InputSpec, any_size: bool) -> tuple[int | None, ...]:
    return (None, None, spec.channels) if any_size else spec.shape


def _two_scale_backbone(
    shape: tuple[int | None, ...], weights: str | None, frozen: bool, frozen_norm: bool, fast: bool
) -> Model:
    """The MobileNet with the outputs of its blocks 11 (stride 16) and 13 (stride 32)."""
    whole = keras.applications.MobileNet(include_top=False, input_shape=shape, weights=None, alpha=1.0)
    _load_backbone_weights(whole, weights)
    outputs = [whole.get_layer("conv_pw_11_relu").output, whole.output]
    return _prepare_backbone(keras.Model(whole.input, outputs, name="backbone"), frozen, frozen_norm, fast)


def _prepare_backbone(backbone: Model, frozen: bool, frozen_norm: bool, fast: bool) -> Model:
    if frozen:
        backbone.trainable = False
        return backbone
    if fast:
        backbone = use_fast_layers(backbone)
    if frozen_norm:
        for layer in backbone.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = False  # a call with training=False would not do: fit of Keras 3 overrides it
    return backbone


def _load_backbone_weights(backbone: Model, weights: str | None) -> None:
    if weights is None:
        return
    if weights == IMAGENET:
        try:
            source = keras.applications.MobileNet(include_top=False, weights=IMAGENET, input_shape=(224, 224, 3))
        except Exception as error:  # Keras raises again what its downloader met: URLError, OSError, bare Exception
            raise RunError(
                f"expected to download the ImageNet weights, Keras says {error}: give a local copy with  --weights FILE"
            ) from None
        backbone.set_weights(source.get_weights())
        return
    if not Path(weights).is_file():
        raise RunError(f"expected MobileNet weights at {weights}, found no file: check --weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # for layers that it leaves random Keras only warns
            backbone.load_weights(weights)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        first_line = str(error).strip().splitlines()[0]
        raise RunError(
            f"expected the ImageNet MobileNet v1 (alpha 1.0, no top) at {weights}, Keras says {first_line}: "
            "see docs/how-to.md for the file it wants"
        ) from None


def _dropout(x: Tensor, rate: float) -> Tensor:
    return layers.Dropout(rate)(x) if rate else x


def build_lstm(spec: InputSpec, *, recurrent_dropout: float = 0.20, classes: int = len(LABELS)) -> Model:
    """Three LSTM layers over the rows of the image, then four dense layers: the published network.

    Reference: Hochreiter and Schmidhuber, "Long short-term memory", 1997; recurrent dropout as in Gal and
    Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.

    Args:
        spec: layout ``"rows"``.
        recurrent_dropout: on the output that is fed back; one mask for all steps of a sequence.
        classes: 2, or 3 with sub-types.

    Returns:
        (N, height, width * 3) float32 -> (N, classes) float32.
    """
    dropout = {"dropout": 0.05, "recurrent_dropout": recurrent_dropout}
    rows = layers.Input(spec.shape, name="rows")
    lstm = FusedLSTM if recurrent_dropout else layers.LSTM  # the same numbers in less time
    x = lstm(250, return_sequences=True, **dropout)(rows)
    x = lstm(120, return_sequences=True, **dropout)(x)
    x = lstm(64, **dropout)(x)
    for units in (250, 120, 64, 28):
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(rows, x, name="lstm")


def build_bilstm(spec: InputSpec, *, dropout: float = 0.0, classes: int = len(LABELS)) -> Model:
    """Two bidirectional LSTM layers over the rows and two over the columns, pooled over all steps.

    The image is standardised first, (x - mean) / deviation, so that the exposure has little influence. Mean and maximum
    over the steps replace the last state, which depends most on the lowest rows.

    Reference: Graves and Schmidhuber, "Framewise phoneme classification with bidirectional LSTM", 2005; rows and
    columns after Visin et al., "ReNet: A recurrent neural network based alternative to convolutional networks", 2015.

    Args:
        spec: layout ``"rows"``, one channel, square.
        dropout: between the LSTM layers and before the dense layers.
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
            x = layers.Bidirectional(lstm, name=f"both_ways_{name}_{depth}")(_dropout(x, dropout if depth > 1 else 0))
        pooled += [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)]  # (N, 2 * LSTM_UNITS) each
    x = _dropout(layers.Concatenate()(pooled), dropout)
    x = _dropout(layers.Dense(HEAD_UNITS, activation="relu", name="hidden")(x), dropout)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(rows, x, name="bilstm")


def _fine_tuned(
    build_network: Callable[..., Model], recipe: Recipe, weights: str | None, inference: bool, **options: float
) -> Model:
    return build_network(
        recipe.spec,
        weights=weights,
        frozen=recipe.trainable == "head",
        frozen_norm=recipe.batch_norm == "frozen",
        dropout=recipe.dropout,
        classes=len(recipe.classes),
        fast=not inference,
        any_size=not inference and recipe.train_spec != recipe.spec,
        **options,
    )


def _with_lungs(recipe: Recipe, weights: str | None, inference: bool) -> Model:
    return _fine_tuned(build_lung_mobilenet, recipe, weights, inference, power=recipe.lung_power)


def _lstm(recipe: Recipe, weights: str | None, inference: bool) -> Model:
    recurrent_dropout = 0.0 if inference else 0.20
    return build_lstm(recipe.spec, recurrent_dropout=recurrent_dropout, classes=len(recipe.classes))


def _bilstm(recipe: Recipe, weights: str | None, inference: bool) -> Model:
    return build_bilstm(recipe.spec, dropout=recipe.dropout, classes=len(recipe.classes))


#: Architecture -> function that builds it from a recipe, the backbone weights, and whether it is for inference only.
BUILDERS: dict[str, Callable[[Recipe, str | None, bool], Model]] = {
    "mobilenet": partial(_fine_tuned, build_mobilenet),
    "mobilenet-lungs": _with_lungs,
    "lstm": _lstm,
    "bilstm": _bilstm,
}


def split_at_features(model: Model) -> tuple[Model, Model] | None:
    """The frozen backbone and the trainable head of a model, which share its layers; None if nothing is frozen.

    ``head(frozen(x))`` equals ``model(x)``, and training the head trains the model.
    """
    names = [layer.name for layer in model.layers]
    if "features" not in names or model.get_layer("backbone").trainable:
        return None
    last_frozen = names.index("features")
    frozen = keras.Model(model.input, model.layers[last_frozen].output, name="frozen")
    x = features = layers.Input(frozen.output.shape[1:], name="pooled")
    for layer in model.layers[last_frozen + 1 :]:
        x = layer(x)
    return frozen, keras.Model(features, x, name="head")
