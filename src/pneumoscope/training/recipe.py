"""Recipe: how a model is trained, as a frozen dataclass read from TOML and command-line flags."""

import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from pneumoscope.data.augment import Augmentation
from pneumoscope.data.splits import ALL, CLASS_WEIGHTS, PATIENT_WISE, check_scheme
from pneumoscope.errors import UsageError
from pneumoscope.inference.preprocess import INPUT_SPECS, RESIZES, InputSpec
from pneumoscope.labels import FINDINGS, LABELS

#: Folder of the recipes that come with the package.
RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """One training, complete: two runs of an equal recipe on equal data give equal weights.

    Attributes:
        name: names the run and the model file.
        model: architecture, ``"mobilenet"``, ``"lstm"`` or ``"bilstm"``.
        epochs: 10, as published.
        batch_size: 32, as published.
        learning_rate: of Adam; 0.001 is Keras's default, which the published work left in place.
        class_weights: rule of :func:`pneumoscope.data.splits.class_weights`; ``"inverse-ratio"`` as published.
        weights: of the backbone: ``"imagenet"`` or a file.
        split: see :func:`pneumoscope.data.splits.make_split`; ``"patient"`` holds whole patients out.
        split_seed: of the split; apart from ``seed`` so that a spread over seeds holds the images still.
        validation_fraction: 0.1, as published.
        seed: of the initial weights and the dropout (unless ``initial_seed``), the order of the images and the
            augmentation.
        initial_seed: of the initial weights and the dropout, so that runs of several seeds or folds start from one
            point and their weights can be averaged; -1 is ``seed``.
        size: height and width of the input in pixels; 0 is the architecture's own.
        source_size: training images are kept squashed at this size, and crops are taken from it; 0 is ``size``.
        resize: ``"area"``, ``"area-224"`` or ``"scaled-224"``, see :class:`pneumoscope.inference.preprocess.InputSpec`.
        trainable: ``"head"`` (frozen backbone, as published) or ``"all"`` (every layer of the MobileNet).
        batch_norm: of a trainable backbone: ``"batch"`` normalises by the batch in training and by running means in
            use; ``"frozen"`` by the ImageNet statistics in both, so that what is trained is what is used.
        dropout: before each dense layer of the head (MobileNet), between layers (bilstm).
        subtypes: learn normal, bacterial and viral, and fold the two into PNEUMONIA afterwards.
        optimizer: ``"adam"`` as published, or ``"adamw"`` (Loshchilov and Hutter, 2019).
        backbone_rate: share of the learning rate for the pretrained layers of a trainable backbone (AdamW), see
            :class:`pneumoscope.training.optimizer.DiscriminativeAdamW`.
        weight_decay: of AdamW; not on biases and batch normalisation.
        schedule: ``"constant"`` as published, or ``"cosine"`` down to zero.
        warmup_epochs: of the cosine schedule, rising linearly from zero.
        label_smoothing: share of the target spread over all classes (Szegedy et al., 2016).
        mixup: alpha of mixup (Zhang et al., 2018); 0 is none.
        keep: ``"best"`` epoch by validation accuracy, as published, or ``"last"``, which looks at no held-out image.
        average: with the split ``"all"``: train this many patient-wise folds and average their weights (see
            :mod:`pneumoscope.training.weight_averaging`) instead of training once on every image; 0 is off.
        teacher: recipe whose run on the same split answers for each training image (see
            :mod:`pneumoscope.training.distillation`); none by default.
        teacher_share: share of the target that the teacher's answer has, the label has the rest.
        mirror: average each prediction with that of the mirror image, in the file's own forward pass.
        precision: of the model file: ``"float32"`` as trained, or ``"int8"``, see :mod:`pneumoscope.training.export.quantise`.
        augment: how training images are changed; none by default.
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
    teacher: str = ""
    teacher_share: float = 0.0
    mirror: bool = False
    precision: str = "float32"
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if isinstance(self.augment, dict):
            object.__setattr__(self, "augment", _augmentation(self.augment))
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type is float and type(value) is int:
                object.__setattr__(self, each.name, float(value))
            elif type(value) is not each.type:
                raise UsageError(f"expected the recipe's {each.name} as {each.type.__name__}, received {value!r}")
        check_scheme(self.split)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"expected the recipe's {name} one of {', '.join(choices)}, received {getattr(self, name)!r}"
                )
        if not self.name or not self.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise UsageError(f"expected the recipe's name of letters, digits and -_. only, received {self.name!r}")
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.learning_rate < float("inf"):
            raise UsageError(
                f"expected epochs, batch_size and learning_rate above zero, received {self.epochs}, "
                f"{self.batch_size} and {self.learning_rate}"
            )
        for name in ("weight_decay", "warmup_epochs", "mixup"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"expected the recipe's {name} zero or above, received {getattr(self, name)}")
        if self.average and not 2 <= self.average <= 100:
            raise UsageError(f"expected the recipe's average as 2 to 100 folds or 0, received {self.average}")
        if self.mirror and self.model != "mobilenet":
            raise UsageError(f"expected mirror with a mobilenet, whose feature map it averages, received {self.model}")
        if self.precision != "float32" and (self.model != "mobilenet" or self.average):
            raise UsageError("expected precision = 'int8' with a mobilenet and without average, received another")
        if self.average and self.trainable == "all" and self.batch_norm != "frozen":
            raise UsageError(
                "expected batch_norm = 'frozen' with average: networks with free batch norm do not average, see "
                "experiments/README.md"
            )
        if bool(self.teacher) != (self.teacher_share > 0) or not 0 <= self.teacher_share <= 1:
            raise UsageError(
                "expected the recipe's teacher with a teacher_share above 0 and at most 1, or neither, received "
                f"{self.teacher!r} and {self.teacher_share}"
            )
        if not 0 < self.backbone_rate <= 1:
            raise UsageError(f"expected the recipe's backbone_rate above 0 to 1, received {self.backbone_rate}")
        if self.backbone_rate < 1 and (self.trainable, self.optimizer) != ("all", "adamw"):
            raise UsageError("expected backbone_rate with trainable = 'all' and optimizer = 'adamw', received another")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"expected the recipe's {name} from 0 to below 1, received {getattr(self, name)}")
        if (self.size and self.size < 32) or (self.source_size and self.source_size < self.spec.height):
            raise UsageError(
                "expected the recipe's size of 32 pixels or more and source_size at least as large, received "
                f"{self.size} and {self.source_size}"
            )
        if self.split == ALL and self.keep != "last":
            raise UsageError('expected keep = "last" with split = "all": no image is held out to choose an epoch by')
        # What NumPy and Keras take.
        if not 0 <= self.seed < 2**32 or not -1 <= self.initial_seed < 2**32:
            raise UsageError(
                f"expected the recipe's seed from 0 and initial_seed from -1 to {2**32 - 1}, received {self.seed} and "
                f"{self.initial_seed}"
            )

    @property
    def spec(self) -> InputSpec:
        """Input contract of the model."""
        spec = replace(INPUT_SPECS[self.model], resize=self.resize)
        return replace(spec, height=self.size, width=self.size) if self.size else spec

    @property
    def classes(self) -> tuple[str, ...]:
        """What the network tells apart: the labels, or normal, bacterial and viral."""
        return FINDINGS if self.subtypes else LABELS

    @property
    def augments(self) -> bool:
        """Whether training images are changed, so that each epoch sees others."""
        return self.augment != Augmentation() or self.mixup > 0 or bool(self.teacher)

    def to_dict(self) -> dict:
        """Plain values, for the run folder and the model file."""
        return asdict(self)


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
}


#: Augmentation keys of version 0.1 -> today's; the recipes inside older runs and model files are read with these.
_OLD_KEYS = {"even": "equalize_aspect", "side": "crop_side", "both": "crop_both"}


def _augmentation(values: dict) -> Augmentation:
    twice = sorted(old for old, new in _OLD_KEYS.items() if old in values and new in values)
    if twice:
        raise UsageError(f"expected augment.{_OLD_KEYS[twice[0]]} once, received it and its old name {twice[0]} too")
    values = {_OLD_KEYS.get(name, name): value for name, value in values.items()}
    known = [field.name for field in fields(Augmentation)]
    unknown = set(values) - set(known)
    if unknown:
        raise UsageError(f"expected augment keys among {', '.join(known)}, received {', '.join(sorted(unknown))}")
    return Augmentation(**values)


def read_recipe(source: str | Path, **changes: object) -> Recipe:
    """Read a recipe file, or a recipe that comes with the package by its name.

    Args:
        source: a TOML file, or for example ``"reference-mobilenet"``.
        changes: fields to set over the file's; None leaves the file's value.

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
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise UsageError(f"expected a TOML file or one of {known}, found no recipe {str(source)!r}") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML, or a NUL byte in the name
        raise UsageError(f"expected a TOML recipe at {path}: {error}") from None
    values.update({name: value for name, value in changes.items() if value is not None})
    known = [field.name for field in fields(Recipe)]
    unknown = set(values) - set(known)
    if unknown:
        raise UsageError(
            f"expected recipe keys among {', '.join(known)}, {path} has unknown {', '.join(sorted(unknown))}"
        )
    missing = {"name", "model"} - set(values)
    if missing:
        raise UsageError(f"expected the recipe keys name and model, {path} lacks {' and '.join(sorted(missing))}")
    return Recipe(**values)
