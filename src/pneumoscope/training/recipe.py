"""Recipe: how a model is trained, as a frozen dataclass read from TOML and command-line flags."""

import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from pneumoscope.data.augment import Augmentation
from pneumoscope.data.splits import ALL, CLASS_WEIGHTS, PATIENT_WISE, check_scheme
from pneumoscope.errors import UsageError
from pneumoscope.inference.preprocess import INPUT_SPECS, RESIZES, InputSpec
from pneumoscope.labels import FINDINGS, LABELS

#: Folder of the recipes that come with the package.
RECIPES = Path(__file__).parent / "recipes"

#: The rule of an operating point that nothing on the folds moves.
BALANCED = "balanced"

#: Fields that take one of a few words.
_CHOICES = {
    "class_weights": CLASS_WEIGHTS,
    "model": tuple(INPUT_SPECS),
    "resize": RESIZES,
    "trainable": ("head", "all"),
    "batch_norm": ("batch", "frozen"),
    "optimizer": ("adam", "adamw"),
    "schedule": ("constant", "cosine"),
    "keep": ("best", "last"),
    "precision": ("float32", "int8"),
    "operating_point": ("sensitivity", BALANCED),
}

#: Augmentation keys of version 0.1 and their names today. Recipes in older runs and model files have the old keys.
_OLD_KEYS = {"even": "equalize_aspect", "side": "crop_side", "both": "crop_both"}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training: two runs of an equal recipe on equal data give equal weights.

    Attributes:
        name: of the run and of the model file.
        model: architecture, a key of :data:`pneumoscope.inference.preprocess.INPUT_SPECS`: ``"mobilenet"``,
            ``"mobilenet-lungs"`` (it needs masks, and its verdict comes from the lungs), ``"lstm"`` or ``"bilstm"``.
        epochs: 10, as published.
        batch_size: 32, as published.
        learning_rate: of Adam; 0.001 is the default of Keras, which the published work used.
        class_weights: rule of :func:`pneumoscope.data.splits.class_weights`; ``"inverse-ratio"`` as published.
        weights: of the backbone: ``"imagenet"`` or a file.
        split: see :func:`pneumoscope.data.splits.make_split`; ``"patient"`` holds whole patients out.
        split_seed: of the split. It is separate from ``seed``, so that trainings with several seeds hold out the same
            images.
        validation_fraction: 0.1, as published.
        seed: of the initial weights and the dropout (unless ``initial_seed`` is given), the order of the images and the
            augmentation.
        initial_seed: of the initial weights and the dropout. Runs of several seeds or folds then start from the same
            weights and can be averaged; -1 means ``seed``.
        size: height and width of the input in pixels; 0 means the architecture's own.
        source_size: training images are stored squashed to this size, and crops are taken from it; 0 means ``size``.
        train_size: of the augmented images of a trainable MobileNet; 0 means ``size``. Random crops make the chest
            larger in training than in use. A smaller size makes up for that, and an epoch takes less time (Touvron et
            al., "Fixing the train-test resolution discrepancy", 2019).
        resize: ``"area"``, ``"area-224"`` or ``"scaled-224"``, see :class:`pneumoscope.inference.preprocess.InputSpec`.
        trainable: ``"head"`` (frozen backbone, as published) or ``"all"`` (every layer of the MobileNet).
        batch_norm: of a trainable backbone. ``"batch"`` normalises by the batch in training and by running means in
            use. ``"frozen"`` normalises by the ImageNet statistics in both, so that the network in use is the one
            that was trained.
        dropout: before each dense layer of the head (MobileNet), between layers (bilstm).
        subtypes: learn normal, bacterial and viral, and add the last two up to PNEUMONIA afterwards.
        optimizer: ``"adam"`` as published, or ``"adamw"`` (Loshchilov and Hutter, 2019).
        backbone_rate: share of the learning rate for the pretrained layers of a trainable backbone (AdamW), see
            :class:`pneumoscope.training.optimizer.DiscriminativeAdamW`.
        weight_decay: of AdamW; biases and batch normalisation do not decay.
        schedule: ``"constant"`` as published, or ``"cosine"`` down to zero.
        warmup_epochs: of the cosine schedule, rising linearly from zero.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al., 2016).
        mixup: alpha of mixup (Zhang et al., 2018); 0 turns it off.
        keep: ``"best"`` keeps the epoch with the best validation accuracy, as published; ``"last"`` uses no held-out
            image to choose.
        average: with the split ``"all"``: train this many patient-wise folds and average their weights (see
            :mod:`pneumoscope.training.weight_averaging`) instead of training once on every image; 0 turns it off.
        ema: momentum of an exponential moving average of the weights, which is what is validated and kept (see
            :mod:`pneumoscope.training.moving_average`); 0 turns it off.
        lung_weight: of the mask loss beside the loss of the label (mobilenet-lungs).
        lung_power: of the lung field where the evidence is pooled; above 1, cells at the border of the lungs count
            less (mobilenet-lungs).
        teacher: a recipe whose run on the same split answers for each training image (see
            :mod:`pneumoscope.training.distillation`); none by default.
        teacher_share: weight of the teacher's answer in the target; the label has the rest.
        mirror: average each prediction with that of the mirror image, inside the model file.
        precision: of the model file: ``"float32"`` as trained, or ``"int8"``, see
            :mod:`pneumoscope.training.export.quantise`.
        operating_point: how a released model gets its threshold: ``"sensitivity"``, the one that has a sensitivity of
            94 % out of fold, or ``"balanced"``, 0.5 of the network as trained.
        augment: how training images are changed; not at all by default.
    """

    name: str
    model: str
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.001
    class_weights: str = "inverse-ratio"
    weights: str = "imagenet"
    split: str = PATIENT_WISE
    split_seed: int = 0
    validation_fraction: float = 0.1
    seed: int = 0
    initial_seed: int = -1
    size: int = 0
    source_size: int = 0
    train_size: int = 0
    resize: str = "area"
    trainable: str = "head"
    batch_norm: str = "batch"
    dropout: float = 0.0
    subtypes: bool = False
    optimizer: str = "adam"
    backbone_rate: float = 1.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    keep: str = "best"
    average: int = 0
    ema: float = 0.0
    lung_weight: float = 0.5
    lung_power: float = 1.0
    teacher: str = ""
    teacher_share: float = 0.0
    mirror: bool = False
    precision: str = "float32"
    operating_point: str = "sensitivity"
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Convert and check every value.

        Raises:
            UsageError: a value of another type or out of range, or options that do not go together.
        """
        _convert_types(self)
        check_scheme(self.split)
        _check_choices(self)
        _check_name(self)
        _check_numbers(self)
        _check_network_options(self)
        _check_teacher(self)
        _check_sizes(self)
        _check_train_size(self)
        _check_cells(self)
        _check_held_out(self)

    @property
    def spec(self) -> InputSpec:
        """Input contract of the model."""
        spec = replace(INPUT_SPECS[self.model], resize=self.resize)
        return replace(spec, height=self.size, width=self.size) if self.size else spec

    @property
    def train_spec(self) -> InputSpec:
        """Input of the network in training, after augmentation."""
        size = self.train_size
        return replace(self.spec, height=size, width=size) if size else self.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the network: the labels, or normal, bacterial and viral."""
        return FINDINGS if self.subtypes else LABELS

    @property
    def learns_lungs(self) -> bool:
        """Whether the network predicts the lung field, and needs masks to learn it."""
        return self.model == "mobilenet-lungs"

    @property
    def augments(self) -> bool:
        """Whether the input or the target of an image changes from epoch to epoch."""
        return self.augment != Augmentation() or self.mixup > 0 or bool(self.teacher)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the run folder and the model file."""
        return asdict(self)


def read_recipe(source: str | Path, **changes: object) -> Recipe:
    """Read a recipe file, or a recipe that comes with the package by its name.

    Args:
        source: a TOML file, or for example ``"reference-mobilenet"``.
        changes: fields that replace the file's; None keeps the file's value.

    Raises:
        UsageError: no such recipe, unknown keys, or values out of range.

    >>> read_recipe("reference-lstm", seed=3).seed
    3
    """
    path = Path(source)
    if path.suffix != ".toml":
        path = RECIPES / f"{source}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        shipped = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise UsageError(f"expected a TOML file or one of {shipped}, found no recipe {str(source)!r}") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML, or a NUL byte in the name
        raise UsageError(f"expected a TOML recipe at {path}: {error}") from None
    values.update({name: value for name, value in changes.items() if value is not None})
    known, unknown = _known_and_unknown(Recipe, values)
    if unknown:
        raise UsageError(f"expected recipe keys among {known}, {path} has unknown {unknown}")
    missing = {"name", "model"} - set(values)
    if missing:
        raise UsageError(f"expected the recipe keys name and model, {path} lacks {' and '.join(sorted(missing))}")
    return Recipe(**values)


def _known_and_unknown(kind: type[Recipe | Augmentation], names: Iterable[str]) -> tuple[str, str]:
    """The fields of a dataclass, and those of ``names`` that are none of them, each as a list in words."""
    known = [field.name for field in fields(kind)]
    return ", ".join(known), ", ".join(sorted(set(names) - set(known)))


def _convert_types(recipe: Recipe) -> None:
    """Give each field the type it is declared with: a table becomes an Augmentation, a whole number a float."""
    if isinstance(recipe.augment, dict):
        object.__setattr__(recipe, "augment", _read_augmentation(recipe.augment))
    for name, declared in get_type_hints(Recipe).items():
        value = getattr(recipe, name)
        if declared is float and type(value) is int:
            object.__setattr__(recipe, name, float(value))
        elif type(value) is not declared:
            raise UsageError(f"expected the recipe's {name} as {declared.__name__}, received {value!r}")


def _read_augmentation(values: dict[str, Any]) -> Augmentation:
    """The table ``[augment]`` of a recipe, with the names of today or of version 0.1."""
    twice = sorted(old for old, new in _OLD_KEYS.items() if old in values and new in values)
    if twice:
        raise UsageError(f"expected augment.{_OLD_KEYS[twice[0]]} once, received it and its old name {twice[0]} too")
    values = {_OLD_KEYS.get(name, name): value for name, value in values.items()}
    known, unknown = _known_and_unknown(Augmentation, values)
    if unknown:
        raise UsageError(f"expected augment keys among {known}, received {unknown}")
    return Augmentation(**values)


def _check_choices(recipe: Recipe) -> None:
    for name, choices in _CHOICES.items():
        value = getattr(recipe, name)
        if value not in choices:
            raise UsageError(f"expected the recipe's {name} one of {', '.join(choices)}, received {value!r}")


def _check_name(recipe: Recipe) -> None:
    """The name becomes a part of folder and file names."""
    if not recipe.name or not recipe.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"expected the recipe's name of letters, digits and -_. only, received {recipe.name!r}")


def _check_numbers(recipe: Recipe) -> None:
    """Each number by itself. The comparisons are written so that NaN fails them."""
    if recipe.epochs < 1 or recipe.batch_size < 1 or not 0 < recipe.learning_rate < float("inf"):
        raise UsageError(
            f"expected epochs, batch_size and learning_rate above zero, received {recipe.epochs}, "
            f"{recipe.batch_size} and {recipe.learning_rate}"
        )
    for name in ("weight_decay", "warmup_epochs", "mixup", "lung_weight", "lung_power"):
        if not 0 <= getattr(recipe, name) < float("inf"):
            raise UsageError(f"expected the recipe's {name} zero or above, received {getattr(recipe, name)}")
    for name in ("dropout", "label_smoothing", "ema"):
        if not 0 <= getattr(recipe, name) < 1:
            raise UsageError(f"expected the recipe's {name} from 0 to below 1, received {getattr(recipe, name)}")
    if not 0 <= recipe.seed < 2**32 or not -1 <= recipe.initial_seed < 2**32:  # what NumPy and Keras accept
        raise UsageError(
            f"expected the recipe's seed from 0 and initial_seed from -1 to {2**32 - 1}, received {recipe.seed} and "
            f"{recipe.initial_seed}"
        )


def _check_network_options(recipe: Recipe) -> None:
    """Options that only some networks have, or that exclude each other."""
    if recipe.average and not 2 <= recipe.average <= 100:
        raise UsageError(f"expected the recipe's average as 2 to 100 folds or 0, received {recipe.average}")
    if recipe.mirror and recipe.model != "mobilenet":
        raise UsageError(f"expected mirror with a mobilenet, whose feature map it averages, received {recipe.model}")
    if recipe.learns_lungs and recipe.mixup:
        raise UsageError("expected mixup = 0 with mobilenet-lungs, whose masks are not mixed, received another")
    if recipe.precision != "float32" and (not recipe.model.startswith("mobilenet") or recipe.average):
        raise UsageError("expected precision = 'int8' with a mobilenet and without average, received another")
    if recipe.average and recipe.trainable == "all" and recipe.batch_norm != "frozen":
        raise UsageError(
            "expected batch_norm = 'frozen' with average: networks with free batch norm do not average, see "
            "experiments/README.md"
        )
    if not 0 < recipe.backbone_rate <= 1:
        raise UsageError(f"expected the recipe's backbone_rate above 0 to 1, received {recipe.backbone_rate}")
    if recipe.backbone_rate < 1 and (recipe.trainable, recipe.optimizer) != ("all", "adamw"):
        raise UsageError("expected backbone_rate with trainable = 'all' and optimizer = 'adamw', received another")


def _check_teacher(recipe: Recipe) -> None:
    if bool(recipe.teacher) != (recipe.teacher_share > 0) or not 0 <= recipe.teacher_share <= 1:
        raise UsageError(
            "expected the recipe's teacher with a teacher_share above 0 and at most 1, or neither, received "
            f"{recipe.teacher!r} and {recipe.teacher_share}"
        )


def _check_sizes(recipe: Recipe) -> None:
    if (recipe.size and recipe.size < 32) or (recipe.source_size and recipe.source_size < recipe.spec.height):
        raise UsageError(
            "expected the recipe's size of 32 pixels or more and source_size at least as large, received "
            f"{recipe.size} and {recipe.source_size}"
        )


def _check_train_size(recipe: Recipe) -> None:
    if not recipe.train_size:
        return
    if not recipe.model.startswith("mobilenet") or recipe.trainable != "all" or not recipe.augments:
        raise UsageError(
            f"expected train_size with a mobilenet that trains every layer on augmented images, received it with "
            f"{recipe.model}, trainable = {recipe.trainable!r} and {'some' if recipe.augments else 'no'} augmentation"
        )
    largest = recipe.source_size or recipe.spec.height
    if not 32 <= recipe.train_size <= largest:
        raise UsageError(f"expected the recipe's train_size from 32 to {largest}, received {recipe.train_size}")


def _check_cells(recipe: Recipe) -> None:
    sizes = recipe.spec.height, recipe.train_spec.height
    if recipe.learns_lungs and any(size % 32 for size in sizes):
        size = next(size for size in sizes if size % 32)
        raise UsageError(f"expected the sizes of mobilenet-lungs as multiples of 32, received {size}")


def _check_held_out(recipe: Recipe) -> None:
    if recipe.split == ALL and recipe.keep != "last":
        raise UsageError('expected keep = "last" with split = "all": no image is held out to choose an epoch by')
