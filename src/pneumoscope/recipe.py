"""Recipe: how a model is trained, as a frozen dataclass read from TOML and command-line flags."""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pneumoscope.errors import UsageError
from pneumoscope.preprocess import INPUT_SPECS
from pneumoscope.splits import CLASS_WEIGHTS, PATIENT_WISE, SCHEMES

#: Folder of the recipes that come with the package.
RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """One training, complete: two runs of an equal recipe on equal data give equal weights.

    Attributes:
        name: names the run and the model file.
        model: architecture, ``"mobilenet"`` or ``"lstm"``.
        epochs: 10, as published.
        batch_size: 32, as published.
        learning_rate: of Adam; 0.001 is Keras's default, which the published work left in place.
        class_weights: rule of :func:`pneumoscope.splits.class_weights`; ``"inverse-ratio"`` as published.
        weights: of the backbone: ``"imagenet"`` or a file.
        split: ``"patient"`` (whole patients on one side) or ``"published"`` (image by image).
        split_seed: of the split; apart from ``seed`` so that a spread over seeds holds the images still.
        validation_fraction: 0.1, as published.
        seed: of the initial weights, the order of the images and the dropout.
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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not field.type:
                raise UsageError(f"expected the recipe's {field.name} as {field.type.__name__}, received {value!r}")
        for name, choices in (("split", SCHEMES), ("class_weights", CLASS_WEIGHTS), ("model", tuple(INPUT_SPECS))):
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
        if not 0 <= self.seed < 2**32:  # what NumPy and Keras take
            raise UsageError(f"expected the recipe's seed from 0 to {2**32 - 1}, received {self.seed}")

    def to_dict(self) -> dict:
        """Plain values, for the run folder and the model file."""
        return asdict(self)


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
