"""Optimizer of a recipe: Adam or AdamW, learning-rate schedule, smaller steps for the pretrained layers."""

from typing import Any

from pneumoscope.training.keras_backend import Model, Tensor, keras
from pneumoscope.training.recipe import Recipe


def build_optimizer(recipe: Recipe, steps_per_epoch: int, model: Model) -> Any:
    """Optimizer and learning rate of a recipe, built on the model's trainable variables.

    Args:
        recipe: of the training.
        steps_per_epoch: batches in an epoch.
        model: the model to train.

    Returns:
        A ``keras.optimizers.Optimizer``.
    """
    rate = _learning_rate(recipe, steps_per_epoch)
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate, **average)
    else:
        optimizer = DiscriminativeAdamW(rate, weight_decay=recipe.weight_decay, **average)
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        if recipe.backbone_rate < 1:
            backbone = {id(variable) for variable in model.get_layer("backbone").trainable_variables}
            optimizer.shares = [
                recipe.backbone_rate if id(variable) in backbone else 1.0 for variable in model.trainable_variables
            ]
    optimizer.build(model.trainable_variables)
    return optimizer


def _learning_rate(recipe: Recipe, steps_per_epoch: int) -> Any:
    """A number, or a schedule of Keras."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else recipe.learning_rate,
        max(1, recipe.epochs * steps_per_epoch - warmup),
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


class DiscriminativeAdamW(keras.optimizers.AdamW):  # type: ignore[misc]  # Keras ships no annotations
    """AdamW with a share of the learning rate for each variable: discriminative fine-tuning.

    At first a random head sends large gradients into the pretrained features. Smaller steps there preserve what the
    features learnt in pretraining, and that is what carries over to other data.

    Reference: Howard and Ruder, "Universal language model fine-tuning for text classification", 2018, section 3.2;
    Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", 2022.

    Attributes:
        shares: of the learning rate, and so of the decay, one for each trainable variable, in the model's order; None
            means 1 for all.
    """

    shares: "list[float] | None" = None

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
        """One step of one variable; Keras calls it."""
        if self.shares is not None:
            learning_rate = learning_rate * self.shares[self._get_variable_index(variable)]
            if self._use_weight_decay(variable):
                self.assign_sub(variable, variable * self.weight_decay * learning_rate)
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables: list[Tensor]) -> None:
        if self.shares is None:  # otherwise update_step decays each variable with its share
            super()._apply_weight_decay(variables)
