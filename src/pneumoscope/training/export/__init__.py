"""From a trained Keras model to the model file that ships.

In: a finished run. Out: one ONNX file with its contract.
Read first: ``onnx_export.py``; ``inference_graph.py`` builds what is exported, ``quantise.py`` makes the int8 file.
"""
