"""Optimizer of a recipe: Adam or AdamW, learning-rate schedule, shorter steps for the pretrained layers."""

from pneumoscope.training import networks as models
from pneumoscope.training.recipe import Recipe

keras = models.keras


def build_optimizer(recipe: Recipe, steps: int, model: keras.Model) -> keras.optimizers.Optimizer:
    """Optimizer and learning rate of a recipe, built on the model's trainable variables.

    Args:
        recipe: what to train.
        steps: of an epoch.
        model: whose variables are trained.
    """
    rate: object = recipe.learning_rate
    if recipe.schedule == "cosine":
        warmup = round(recipe.warmup_epochs * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else recipe.learning_rate,
            max(1, recipe.epochs * steps - warmup),
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate)
    else:
        optimizer = DiscriminativeAdamW(rate, weight_decay=recipe.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        if recipe.backbone_rate < 1:
            backbone = {id(variable) for variable in model.get_layer("backbone").trainable_variables}
            optimizer.shares = [
                recipe.backbone_rate if id(variable) in backbone else 1.0 for variable in model.trainable_variables
            ]
    optimizer.build(model.trainable_variables)
    return optimizer


class DiscriminativeAdamW(keras.optimizers.AdamW):
    """AdamW with a share of the learning rate for each variable: discriminative fine-tuning.

    A random head on pretrained features sends large gradients into them at first; shorter steps below keep what they
    were pretrained for, which is what holds elsewhere (Kumar et al., "Fine-tuning can distort pretrained features and
    underperform out-of-distribution", 2022).

    Reference: Howard and Ruder, "Universal language model fine-tuning for text classification", 2018, section 3.2.

    Attributes:
        shares: of the learning rate, and so of the decay, one a trainable variable in their order; None is 1 for all.
    """

    shares: "list[float] | None" = None

    def update_step(self, gradient: object, variable: object, learning_rate: object) -> None:
        """One step of one variable, called by Keras."""
        if self.shares is not None:
            learning_rate = learning_rate * self.shares[self._get_variable_index(variable)]
            if self._use_weight_decay(variable):
                self.assign_sub(variable, variable * self.weight_decay * learning_rate)
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables: object) -> None:
        if self.shares is None:  # else each step decays by its own rate
            super()._apply_weight_decay(variables)
