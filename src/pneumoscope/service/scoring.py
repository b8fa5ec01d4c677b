"""Images of many requests -> predictions, in worker threads: one image for each core, the others wait in order."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from pneumoscope.errors import BundleError
from pneumoscope.inference.explain import explain_prediction
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.prediction import Prediction
from pneumoscope.io.cores import available_cores
from pneumoscope.output.overlay import draw_overlay, encode_png
from pneumoscope.radiographs.images import read_radiograph

_LOG = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Scorer:
    """Judges images for many callers; its methods may be called from any thread.

    Each worker reads one image and runs the model on it with one thread. Two cores that judge one image each are as
    fast as two cores on a common batch, and no image has to wait until a batch is complete.

    Args:
        workers: number of threads; one for each core by default.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = ThreadPoolExecutor(workers or available_cores(), thread_name_prefix="judge")

    def submit(self, predictor: Predictor, data: bytes, name: str) -> "Future[Prediction]":
        """Judge the bytes of an image; cancelling the future frees them."""
        return self._run_later(lambda data: _judge(predictor, data, name), data)

    def draw(self, predictor: Predictor, data: bytes, prediction: Prediction) -> "Future[bytes]":
        """Draw the overlay of a judged image, as PNG."""
        return self._run_later(lambda data: _draw(predictor, data, prediction), data)

    def render(self, data: bytes) -> "Future[bytes]":
        """Decode a radiograph, and encode its gray values as PNG."""
        return self._run_later(_render, data)

    def close(self) -> None:
        """Finish the images that are being judged, drop those that wait, and stop the threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _run_later(self, work: Callable[[bytes], _Result], data: bytes) -> "Future[_Result]":
        """Run work in a worker; cancelling the future frees the data at once, although the work stays in the queue."""
        waiting = [data]

        def run() -> _Result:
            try:
                taken = waiting.pop()
            except IndexError:  # cancelled
                raise CancelledError from None
            return work(taken)

        future = self._workers.submit(run)
        future.add_done_callback(lambda _: waiting.clear())
        return future


async def wait_while_connected(request: Request, work: "asyncio.Future[_Result]") -> _Result:
    """The result of work that is under way. The body of the request must have been read.

    Raises:
        ClientDisconnect: the client has closed the connection; the work is cancelled.
    """
    disconnected: asyncio.Future[Any] = asyncio.ensure_future(request.receive())
    # An error of work that is cancelled here is fetched by nobody else, and asyncio would log it.
    work.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        done, _ = await asyncio.wait({work, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if work not in done:
            raise ClientDisconnect
        return work.result()
    finally:
        disconnected.cancel()
        work.cancel()


def _judge(predictor: Predictor, data: bytes, name: str) -> Prediction:
    prepared = predictor.prepare(data)._replace(path=name)
    try:
        (prediction,) = predictor.predict_prepared([prepared])
    except Exception:  # of the runtime: only this image fails
        _LOG.exception("a model failed")
        raise BundleError(
            f"expected the model {predictor.bundle.name} to run, it failed, and the log of the service says how: "
            "use another one"
        ) from None
    return prediction


def _draw(predictor: Predictor, data: bytes, prediction: Prediction) -> bytes:
    return encode_png(draw_overlay(explain_prediction(predictor, read_radiograph(data, any_age=True), prediction)))


def _render(data: bytes) -> bytes:
    return encode_png(read_radiograph(data, any_age=True).pixels)
