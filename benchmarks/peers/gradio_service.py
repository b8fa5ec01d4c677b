"""The default model behind Gradio, as the guide of Gradio shows it: it takes an image as a file and returns JSON.

    PYTHON_WITH_GRADIO benchmarks/peers/gradio_service.py

It listens on a free port of this machine and prints its address. Its environment has gradio and pneumoscope.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio

from pneumoscope import load

PREDICTOR = load("mobilenet")


def predict(path: str) -> dict:
    """The answer that the service of this project gives for one image."""
    prediction = PREDICTOR.predict(path)
    return prediction.to_dict()


app = gradio.Interface(predict, gradio.Image(type="filepath"), gradio.JSON(), api_name="predict", concurrency_limit=2)
app.queue(max_size=128)
_, address, _ = app.launch(
    server_name="127.0.0.1", server_port=int(os.environ["PORT"]), quiet=True, prevent_thread_lock=True
)
print(address, flush=True)
app.block_thread()
