"""Images of many requests -> predictions: one a core at a time, the others in their order, in bounded memory."""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pneumoscope.errors import BundleError, Busy, ImageTooLarge, UsageError
from pneumoscope.inference.explain import explain_prediction
from pneumoscope.inference.predict import Prediction, Predictor
from pneumoscope.output.overlay import draw_overlay, encode_png
from pneumoscope.radiographs.images import read_radiograph

_LOG = logging.getLogger(__name__)

#: Images that may be inside at a time, and the bytes of their files.
MAX_IMAGES, MAX_BYTES = 128, 400_000_000


_Result = TypeVar("_Result")


@dataclass
class Capacity:
    """What is inside: counted before anything is kept, so that memory has a bound."""

    images: int = 0
    bytes: int = 0
    max_images: int = MAX_IMAGES
    max_bytes: int = MAX_BYTES
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def acquire(self, images: int = 0, size: int = 0) -> None:
        """Count images or bytes in.

        Raises:
            Busy: there is no room for them.
        """
        with self._lock:
            if self.images + images > self.max_images or self.bytes + size > self.max_bytes:
                raise Busy("expected room for more images, the service is full: try again in a second")
            self.images, self.bytes = self.images + images, self.bytes + size

    def release(self, images: int = 0, size: int = 0) -> None:
        """Count them out."""
        with self._lock:
            self.images, self.bytes = self.images - images, self.bytes - size


class Admission:
    """What one request has inside; as a context it leaves where an error ends it, else with its answer.

    Raises:
        Busy: at once, before anything is read, if the service is full.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity, self._images, self._bytes = capacity, 0, 0
        capacity.acquire(images=1)
        capacity.release(images=1)

    def __enter__(self) -> "Admission":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.release()

    def admit_image(self) -> None:
        """One more image, to be judged.

        Raises:
            UsageError: this request alone has more than there is room for.
        """
        if self._images >= self._capacity.max_images:
            raise UsageError(f"expected at most {self._capacity.max_images} files a request, received more: send fewer")
        self._capacity.acquire(images=1)
        self._images += 1

    def reserve_bytes(self, size: int) -> None:
        """So many more bytes, of files or of the answer.

        Raises:
            ImageTooLarge: this request alone has more than there is room for.
        """
        if self._bytes + size > self._capacity.max_bytes:
            raise ImageTooLarge(
                f"expected at most {self._capacity.max_bytes // 10**6} MB a request, received more: send fewer files"
            )
        self._capacity.acquire(size=size)
        self._bytes += size

    def leave(self) -> None:
        """All of it is out."""
        self._capacity.release(self._images, self._bytes)
        self._images = self._bytes = 0

    def release_after_sending(self, response: Response) -> ASGIApp:
        """A response that keeps it counted until its last byte has been taken, or the client has gone."""
        return _ReleasingResponse(response, self)


class _ReleasingResponse(Response):
    def __init__(self, response: Response, inside: Admission) -> None:
        self.response, self.inside, self.background = response, inside, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.response(scope, receive, send)
        finally:
            self.inside.release()


class Scorer:
    """Judges images for many callers, as many at a time as there are workers; :meth:`submit` from any thread.

    Each worker reads an image and runs the model on it alone, with one thread: two cores that judge an image each are
    as fast as both on a common batch, for which single images would have to wait.

    Args:
        workers: threads; one a core by default.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = ThreadPoolExecutor(workers or os.cpu_count(), thread_name_prefix="judge")

    def submit(self, predictor: Predictor, data: bytes, name: str) -> "Future[Prediction]":
        """Judge the bytes of an image; cancelling the future lets go of them."""
        return self._later(lambda data: _judged(predictor, data, name), data)

    def draw(self, predictor: Predictor, data: bytes, prediction: Prediction) -> "Future[bytes]":
        """The overlay of a judged image, as PNG."""
        return self._later(lambda data: _drawn(predictor, data, prediction), data)

    def render(self, data: bytes) -> "Future[bytes]":
        """A radiograph as it is read, as PNG."""
        return self._later(_rendered, data)

    def _later(self, work: Callable[[bytes], _Result], data: bytes) -> "Future[_Result]":
        """Work for a worker; cancelling the future lets go of the data."""
        held = [data]

        def run() -> _Result:
            try:
                mine = held.pop()
            except IndexError:  # cancelled
                raise CancelledError from None
            return work(mine)

        future = self._workers.submit(run)
        future.add_done_callback(lambda done: held.clear())
        return future

    def close(self) -> None:
        """Finish what is being judged, drop what has not begun, and stop the threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)


def _judged(predictor: Predictor, data: bytes, name: str) -> Prediction:
    prepared = predictor.prepare(data)._replace(path=name)
    try:
        (prediction,) = predictor.predict_prepared([prepared])
    except Exception:  # of the runtime: this image fails, the others go on
        _LOG.exception("a model failed")
        raise BundleError(
            f"expected the model {predictor.bundle.name} to run, it failed, and the log of the service says how: "
            "use another one"
        ) from None
    return prediction


def _drawn(predictor: Predictor, data: bytes, prediction: Prediction) -> bytes:
    return encode_png(draw_overlay(explain_prediction(predictor, read_radiograph(data), prediction)))


def _rendered(data: bytes) -> bytes:
    return encode_png(read_radiograph(data).pixels)
