"""Storage commitment: an archive confirms that it keeps results, before the node forgets them (PS3.4, annex J)."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset

from pneumoscope.pacs.queue import Queue, QueuedImage

#: Seconds after which results are sent again if the archive has not answered.
TIMEOUT = 600.0


class Commitments:
    """Results that an archive has stored, and whose safekeeping it was asked to confirm.

    They stay taken in the queue until it answers. A node that ends meanwhile sends them again when it starts.

    Args:
        queue: of the node.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, queue: Queue, timeout: float = TIMEOUT) -> None:
        self._queue, self._timeout = queue, timeout
        self._guard = threading.Lock()
        # transaction -> when it was asked for, and the image of each result
        self._open: dict[str, tuple[float, dict[str, QueuedImage]]] = {}

    def ask(self, transaction_uid: str, results: Mapping[str, QueuedImage]) -> None:
        """Note a question, before it is sent.

        Args:
            transaction_uid: of the question.
            results: image by SOPInstanceUID of each of its results.
        """
        with self._guard:
            self._open[transaction_uid] = time.monotonic(), dict(results)

    def withdraw(self, transaction_uid: str) -> None:
        """Forget a question that could not be sent; the results will be sent again."""
        with self._guard:
            _, results = self._open.pop(transaction_uid, (0.0, {}))
        for image in set(results.values()):
            self._queue.give_back(image)

    def withdraw_old(self) -> int:
        """Forget questions without an answer; returns how many."""
        now = time.monotonic()
        with self._guard:
            old = [uid for uid, (asked, _) in self._open.items() if now - asked > self._timeout]
        for uid in old:
            self.withdraw(uid)
        return len(old)

    def handle_report(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle the N-EVENT-REPORT of an archive (PS3.4, section J.3.3); returns its status and no data set."""
        try:
            report = event.event_information
            transaction = str(report.TransactionUID)
            failed = [str(item.ReferencedSOPInstanceUID) for item in report.get("FailedSOPSequence", [])]
        except Exception:  # of the decoder
            return 0x0110, None
        return (0x0000 if self._finish(transaction, failed) else 0x0112), None

    def _finish(self, transaction_uid: str, failed: Sequence[str]) -> bool:
        """Note an answer; returns whether it was asked for."""
        with self._guard:
            found = self._open.pop(transaction_uid, None)
        if found is None:
            return False
        results = found[1]
        lost = {results[uid].id for uid in failed if uid in results}
        for image in {image.id: image for image in results.values()}.values():
            if image.id in lost:
                self._queue.mark_refused(image, "the archive has not committed itself to keep the results")
            else:
                self._queue.mark_delivered(image)
        return True
