"""The thread of a node that answers: results on disk -> their destination, until it has them.

A destination that cannot be reached is asked again, after longer and longer pauses, without an end. One that refuses an
answer gets it again a few times; then the answer is dead, with the reason.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

from pneumoscope.pacs.commitments import Commitments
from pneumoscope.pacs.destinations import Connection, Destination, Refused, Unreachable
from pneumoscope.pacs.dicom_files import refer_to
from pneumoscope.pacs.notes import describe_error
from pneumoscope.pacs.queue import JUDGED, Queue, QueuedImage

_LOG = logging.getLogger(__name__)

#: Answers that are sent over one connection.
BATCH = 50
#: Seconds of the first pause and of the longest one, where the destination cannot be reached.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0


class Sender:
    """A thread that sends the results of judged images.

    Args:
        queue: of the node.
        destination: gets the results.
        pauses: seconds of the first and of the longest pause.
        commitments: where the destination is asked to confirm that it keeps the results; None if it is not asked.
    """

    def __init__(
        self,
        queue: Queue,
        destination: Destination,
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
        commitments: Commitments | None = None,
    ) -> None:
        self._commitments = commitments
        self._queue, self._destination, self._pauses = queue, destination, pauses
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)
        #: Why the destination could not be reached last; empty while it can, and before the first attempt.
        self.problem = ""
        #: Whether there was an attempt.
        self.has_tried = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Tell the thread that there is something new."""
        self._wake.set()

    def end(self) -> None:
        """Let the thread begin no other answer."""
        self._stopping.set()
        self._wake.set()

    def stop(self, seconds: float | None = None) -> None:
        """Let the thread finish the answer that it sends, and wait for that.

        Args:
            seconds: to wait at most. A thread that still waits for its destination then ends with the program; the
                result is sent again by the next node, under the same UID.
        """
        self.end()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> None:
        pause = 0.0
        refused: set[int] = set()  # they wait for the next round, so that they do not hold up the others
        while not self._stopping.is_set():
            try:
                self._send_batch(refused)
                pause = 0.0
            except Exception as error:  # this thread must not end: nobody would get an answer any more
                if self._stopping.is_set():  # the queue may be closed
                    return
                expected = isinstance(error, Unreachable)
                self.problem = str(error) if expected else f"an error of this program: {describe_error(error)}"
                self.has_tried = True
                pause = min(max(self._pauses[0], 2 * pause), self._pauses[1])
                _LOG.warning("the destination of results: %s; next try in %.0f s", self.problem, pause)
                self._stopping.wait(pause)

    def _send_batch(self, refused: set[int]) -> None:
        """Send the results of the first images that wait, or wait for some.

        Args:
            refused: ids of images that are not wanted now; gets those that are refused.

        Raises:
            Unreachable: see there.
        """
        if self._commitments and (old := self._commitments.withdraw_old()):
            _LOG.warning("%d requests for storage commitment had no answer; the results are sent again", old)
        images = self._queue.take(JUDGED, BATCH, refused)
        if not images:
            self._wake.wait(self._pauses[0] if refused else 1.0)
            self._wake.clear()
            refused.clear()
            return
        stored: dict[Path, QueuedImage] = {}
        asked: set[int] = set()
        try:
            with self._destination.connect() as connection:
                refused |= self._send(connection, images, stored)
                if stored and self._commitments:
                    self._request_commitment(connection, self._commitments, stored)
                    asked = {image.id for image in stored.values()}
            self.problem, self.has_tried = "", True
        finally:
            for image in images:
                if image.id not in asked:
                    self._queue.give_back(image)

    def _send(self, connection: Connection, images: Sequence[QueuedImage], stored: dict[Path, QueuedImage]) -> set[int]:
        """Send the results of some images.

        Args:
            connection: to the destination.
            images: that were taken.
            stored: gets the results that the destination has, where it is to confirm that it keeps them.

        Returns:
            The ids of the images whose results were refused.
        """
        refused = set()
        for image in images:
            if self._stopping.is_set():
                break
            results = list(self._queue.results_of(image).values())
            try:
                for path in results:
                    connection.store(path)
            except Refused as error:
                self._queue.mark_refused(image, f"the destination of results: {error}")
                refused.add(image.id)
            except Unreachable:
                raise
            except Exception as error:  # of a library; the others go on
                if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                    raise  # of the disk, not of this result
                reason = f"the result cannot be sent, an error of this program: {describe_error(error)}"
                _LOG.error("image %d: %s", image.id, reason)
                self._queue.mark_refused(image, reason)
                refused.add(image.id)
            else:
                if self._commitments:
                    stored.update(dict.fromkeys(results, image))
                else:
                    self._queue.mark_delivered(image)
        return refused

    def _request_commitment(
        self, connection: Connection, commitments: Commitments, stored: Mapping[Path, QueuedImage]
    ) -> None:
        transaction = str(generate_uid(prefix=None))
        references = {path: refer_to(pydicom.dcmread(path, stop_before_pixels=True)) for path in stored}
        by_uid = {str(references[path].ReferencedSOPInstanceUID): image for path, image in stored.items()}
        commitments.ask(transaction, by_uid)
        try:
            connection.request_commitment(transaction, list(references.values()))
        except BaseException:
            commitments.withdraw(transaction)
            raise
