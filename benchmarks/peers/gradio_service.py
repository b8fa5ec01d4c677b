"""The default model behind Gradio, as its guide shows it: an image as a file, the probability and the heatmap back.

    PYTHON_WITH_GRADIO benchmarks/peers/gradio_service.py

Listens on a free port of this machine and prints its address; that environment has gradio and pneumoscope.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio

from pneumoscope import load

PREDICTOR = load("mobilenet")


def judge(path: str) -> dict:
    """What the service of this project answers for one image."""
    prediction = PREDICTOR.predict(path)
    return prediction.to_dict()


app = gradio.Interface(judge, gradio.Image(type="filepath"), gradio.JSON(), api_name="predict", concurrency_limit=2)
app.queue(max_size=128)
_, address, _ = app.launch(
    server_name="127.0.0.1", server_port=int(os.environ["PORT"]), quiet=True, prevent_thread_lock=True
)
print(address, flush=True)
app.block_thread()
