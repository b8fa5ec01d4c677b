"""The threads of a node that judge: an accepted image -> its results on disk."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection

from pneumoscope.errors import PneumoscopeError
from pneumoscope.inference.predict import Predictor
from pneumoscope.pacs.dicom_files import dicom_bytes
from pneumoscope.pacs.notes import describe_error
from pneumoscope.pacs.queue import RECEIVED, Queue, QueuedImage
from pneumoscope.pacs.results import make_results

_LOG = logging.getLogger(__name__)

#: Seconds between two looks into the queue where nothing wakes a thread.
POLL = 1.0


class Judges:
    """Threads that take images from a queue, judge them, and put the results back.

    Args:
        queue: of the node.
        predictor: the model, for one thread.
        kinds: of results, see :func:`pneumoscope.pacs.results.make_results`.
        workers: number of threads.
        on_judged: called after the results of an image were put into the queue.
    """

    def __init__(
        self,
        queue: Queue,
        predictor: Predictor,
        kinds: Collection[str],
        workers: int,
        on_judged: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue, self._predictor, self._kinds, self._on_judged = queue, predictor, tuple(kinds), on_judged
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"judge-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Tell the threads that there is something new."""
        self._wake.set()

    def stop(self) -> None:
        """Let each thread finish its image, and wait for that."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self) -> None:
        while not self._stopping.is_set():
            images: list[QueuedImage] = []
            try:
                images = self._queue.take(RECEIVED)
                if images:
                    self._judge(images[0])
                else:
                    self._wake.wait(POLL)
                    self._wake.clear()
            except Exception as error:  # of the database; this thread must not end
                _LOG.error("images cannot be judged at the moment: %s; tried again", describe_error(error))
                for image in images:
                    self._queue.give_back(image)
                self._stopping.wait(POLL)

    def _judge(self, image: QueuedImage) -> None:
        """Judge one image. An image that cannot be judged has a report, too; only one without a report is dead."""
        try:
            data = image.path.read_bytes()
            prediction = self._predictor.predict(data)
            results = make_results(data, self._predictor, prediction, self._kinds)
            self._queue.mark_judged(image, {kind: dicom_bytes(result) for kind, result in results.items()})
        except PneumoscopeError as error:
            self._queue.mark_failed(image, str(error), final=True)
        except (OSError, sqlite3.Error) as error:  # the disk is full: wait, and try again
            if isinstance(error, FileNotFoundError) and not image.path.exists():
                self._queue.mark_failed(image, "its file is not in the queue any more: send it again", final=True)
                return
            reason = getattr(error, "strerror", None) or describe_error(error)
            _LOG.error("the results of image %d cannot be kept: %s; tried again", image.id, reason)
            self._queue.give_back(image)
            self._stopping.wait(POLL)
        except Exception as error:
            reason = f"expected a result, an error of this program came: {describe_error(error)}"
            self._queue.mark_failed(image, reason, final=True)
        else:
            self._on_judged()
