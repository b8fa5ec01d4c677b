"""From a recipe and labelled radiographs to a model file.

In: a :class:`Recipe` and a :class:`~pneumoscope.data.Manifest`. Out: ``runs/<id>/`` with weights, history and
``model.onnx``.
Read first: ``recipe.py`` (every setting), then ``train.py``; ``networks.py`` has the architectures. This package
exports only what needs no TensorFlow. Import the rest from its module, for example ``training.train.train`` or
``training.release.release``.
"""

from pneumoscope.training.recipe import RECIPES, Recipe, read_recipe
from pneumoscope.training.runs import MONITOR, Run, open_finished_run, read_history, run_id

__all__ = ["MONITOR", "RECIPES", "Recipe", "Run", "open_finished_run", "read_history", "read_recipe", "run_id"]
