"""From a recipe and labelled radiographs to a model file.

In: a :class:`Recipe` and a :class:`~pneumoscope.data.Manifest`. Out: ``runs/<id>/`` with weights, history, ``model.onnx``.
Read first: ``recipe.py`` (every setting), then ``train.py``. Only what needs no TensorFlow is exported here; import
``train``, ``release``, ``cross_validate`` and the rest from their modules, which load it.
"""

from pneumoscope.training.recipe import RECIPES, Recipe, read_recipe
from pneumoscope.training.runs import MONITOR, Run, open_finished_run, read_history, run_id

__all__ = ["MONITOR", "RECIPES", "Recipe", "Run", "open_finished_run", "read_history", "read_recipe", "run_id"]
