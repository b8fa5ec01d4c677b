"""From a trained Keras model to the model file that ships.

In: a finished run. Out: one ONNX file with its contract.
Read first: ``onnx_export.py``. It calls ``inference_graph.py`` (the network of the file), ``onnx_graph.py`` (its bytes)
and ``parity.py`` (checks); ``quantise.py`` makes the int8 file. All need TensorFlow, so nothing is exported here.
"""
