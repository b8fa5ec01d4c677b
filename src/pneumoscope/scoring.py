"""Images of many requests -> predictions: decoded side by side, judged in common batches, in bounded memory.

One thread runs the model; it takes whatever is decoded by then, up to a batch, and waits for nothing else. So a
lone image is judged at once, and under load the batches grow by themselves.
"""

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pneumoscope.errors import BundleError, Busy, ImageTooLarge, UsageError
from pneumoscope.explain import explain_prediction, overlay, png
from pneumoscope.images import read_radiograph
from pneumoscope.predict import BATCH, Prediction, Predictor, Prepared

_LOG = logging.getLogger(__name__)

#: Images that may be inside at a time, and the bytes of their files.
MAX_IMAGES, MAX_BYTES = 128, 400_000_000


@dataclass(eq=False)
class _Job:
    predictor: Predictor
    prepared: Prepared
    future: "Future[Prediction]"


@dataclass
class Load:
    """What is inside: counted before anything is kept, so that memory has a bound."""

    images: int = 0
    bytes: int = 0
    max_images: int = MAX_IMAGES
    max_bytes: int = MAX_BYTES
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def enter(self, images: int = 0, size: int = 0) -> None:
        """Count images or bytes in.

        Raises:
            Busy: there is no room for them.
        """
        with self._lock:
            if self.images + images > self.max_images or self.bytes + size > self.max_bytes:
                raise Busy("expected room for more images, the service is full: try again in a second")
            self.images, self.bytes = self.images + images, self.bytes + size

    def leave(self, images: int = 0, size: int = 0) -> None:
        """Count them out."""
        with self._lock:
            self.images, self.bytes = self.images - images, self.bytes - size


class Inside:
    """What one request has inside; as a context it leaves where an error ends it, else with its answer.

    Raises:
        Busy: at once, before anything is read, if the service is full.
    """

    def __init__(self, load: Load) -> None:
        self._load, self._images, self._bytes = load, 0, 0
        load.enter(images=1)
        load.leave(images=1)

    def __enter__(self) -> "Inside":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.leave()

    def keep_image(self) -> None:
        """One more image, to be judged.

        Raises:
            UsageError: this request alone has more than there is room for.
        """
        if self._images >= self._load.max_images:
            raise UsageError(f"expected at most {self._load.max_images} files a request, received more: send fewer")
        self._load.enter(images=1)
        self._images += 1

    def keep_bytes(self, size: int) -> None:
        """So many more bytes, of files or of the answer.

        Raises:
            ImageTooLarge: this request alone has more than there is room for.
        """
        if self._bytes + size > self._load.max_bytes:
            raise ImageTooLarge(
                f"expected at most {self._load.max_bytes // 10**6} MB a request, received more: send fewer files"
            )
        self._load.enter(size=size)
        self._bytes += size

    def leave(self) -> None:
        """All of it is out."""
        self._load.leave(self._images, self._bytes)
        self._images = self._bytes = 0

    def until_sent(self, response: Response) -> ASGIApp:
        """A response that keeps it counted until its last byte has been taken, or the client has gone."""
        return _Leaving(response, self)


class _Leaving(Response):
    def __init__(self, response: Response, inside: Inside) -> None:
        self.response, self.inside, self.background = response, inside, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.response(scope, receive, send)
        finally:
            self.inside.leave()


class Scorer:
    """Judges images for many callers; :meth:`submit` from any thread.

    Args:
        decoders: threads that read images.
        on_batch: told the size of each batch.
    """

    def __init__(self, decoders: int = 2, on_batch: Callable[[int], None] = lambda size: None) -> None:
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._on_batch = on_batch
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
        self._thread.start()

    def submit(self, predictor: Predictor, data: bytes, name: str) -> "Future[Prediction]":
        """Begin to judge the bytes of an image; cancelling the future lets go of them."""
        future: Future[Prediction] = Future()
        held = [data]
        future.add_done_callback(lambda done: held.clear())
        self._decoders.submit(self._decode, predictor, held, name, future)
        return future

    def draw(self, predictor: Predictor, data: bytes, prediction: Prediction) -> "Future[bytes]":
        """The overlay of a judged image, as PNG."""
        return self._later(lambda data: _drawn(predictor, data, prediction), data)

    def render(self, data: bytes) -> "Future[bytes]":
        """A radiograph as it is read, as PNG."""
        return self._later(_rendered, data)

    def _later(self, work: Callable[[bytes], bytes], data: bytes) -> "Future[bytes]":
        """Work for a decoder; cancelling the future lets go of the data."""
        held = [data]

        def run() -> bytes:
            try:
                mine = held.pop()
            except IndexError:  # cancelled
                raise CancelledError from None
            return work(mine)

        future = self._decoders.submit(run)
        future.add_done_callback(lambda done: held.clear())
        return future

    def close(self) -> None:
        """Finish what is being read and judged, drop what has not begun, and stop the threads."""
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._queue.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._thread.is_alive()

    def _decode(self, predictor: Predictor, held: list[bytes], name: str, future: Future) -> None:
        try:
            data = held.pop()
        except IndexError:  # cancelled
            return
        try:
            prepared = predictor.prepare(data)._replace(path=name)
        except Exception as error:  # of a decoder: this image fails, the others go on
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
            return
        self._queue.put(_Job(predictor, prepared, future))

    def _run(self) -> None:
        waiting: deque[_Job | None] = deque()
        while True:
            if not waiting:
                waiting.append(self._queue.get())
            with contextlib.suppress(queue.Empty):
                while len(waiting) < BATCH:
                    waiting.append(self._queue.get_nowait())
            if waiting[0] is None:  # put in by close, after the last job
                return
            batch = [job for job in waiting if job is not None and job.predictor is waiting[0].predictor]
            for job in batch:
                waiting.remove(job)
            self._judge([job for job in batch if job.future.set_running_or_notify_cancel()])

    def _judge(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        self._on_batch(len(jobs))
        try:
            predictions = list(jobs[0].predictor.judge([job.prepared for job in jobs]))
        except Exception:  # of the runtime: these images fail, the thread goes on
            _LOG.exception("a model failed on %d images", len(jobs))
            failed = BundleError(
                f"expected the model {jobs[0].predictor.bundle.name} to run, it failed, and the log of the service "
                "says how: use another one"
            )
            for job in jobs:
                job.future.set_exception(failed)
            return
        for job, prediction in zip(jobs, predictions, strict=True):
            job.future.set_result(prediction)


def _drawn(predictor: Predictor, data: bytes, prediction: Prediction) -> bytes:
    return png(overlay(explain_prediction(predictor, read_radiograph(data), prediction)))


def _rendered(data: bytes) -> bytes:
    return png(read_radiograph(data).pixels)
