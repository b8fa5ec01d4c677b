"""The DICOM node: it listens for radiographs, judges them, and sends the results back."""

import ssl
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from pneumoscope import __version__
from pneumoscope.inference.predict import Predictor
from pneumoscope.io.cores import available_cores
from pneumoscope.pacs.commitments import Commitments
from pneumoscope.pacs.destinations import Destination
from pneumoscope.pacs.judging import Judges
from pneumoscope.pacs.queue import Queue
from pneumoscope.pacs.receiver import Limits, Peer, Receiver
from pneumoscope.pacs.results import CAPTURE, REPORT
from pneumoscope.pacs.sender import Sender
from pneumoscope.pacs.web_poller import WebPoller

#: What is sent back, if nothing else is asked for.
DEFAULT_KINDS = (REPORT, CAPTURE)
#: Seconds that a node that stops waits for other machines to answer.
PATIENCE = 3.0


class Node:
    """A node at work: :meth:`start`, then :meth:`stop`.

    Args:
        predictor: the model, for one thread.
        folder: of the queue; an earlier node's work is continued.
        destination: gets the results.
        aet: AE title.
        kinds: of results.
        peers: who may send; empty for everybody.
        limits: of the receiver.
        quota: bytes of images that may wait; 0 for no limit.
        workers: threads that judge; one for each core by default.
        commitment: keep results until the destination has confirmed that it keeps them (storage commitment).

    Attributes:
        queue, receiver, sender: its parts.
        poller: fetches from a DICOMweb server; None before :meth:`poll`.
    """

    def __init__(
        self,
        predictor: Predictor,
        folder: Path,
        destination: Destination,
        aet: str = "PNEUMOSCOPE",
        kinds: Collection[str] = DEFAULT_KINDS,
        peers: Sequence[Peer] = (),
        limits: Limits | None = None,
        quota: int = 0,
        workers: int | None = None,
        commitment: bool = False,
    ) -> None:
        self.poller: WebPoller | None = None
        self.queue = Queue(folder, describe_judge(predictor, kinds), quota)
        commitments = Commitments(self.queue) if commitment else None
        self.sender = Sender(self.queue, destination, commitments=commitments)
        self._judges = Judges(self.queue, predictor, kinds, workers or available_cores(), self.sender.wake)
        self.receiver = Receiver(self.queue, aet, peers, limits, self._judges.wake, commitments)

    def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, judge and send, in threads; returns the port."""
        port = self.receiver.start(host, port, tls)
        self._judges.start()
        self.sender.start()
        return port

    def poll(self, url: str, seconds: float = 60.0, days: int = 1, studies: Sequence[str] = ()) -> None:
        """Also fetch radiographs from a DICOMweb server; see :class:`pneumoscope.pacs.web_poller.WebPoller`."""
        self.poller = WebPoller(self.queue, url, seconds, days, studies, self._judges.wake)
        self.poller.start()

    def stop(self) -> None:
        """Stop in order: accept nothing more, finish the images and the answer in hand. The rest stays in the queue.

        Nobody waits longer than :data:`PATIENCE` for another machine.
        """
        self.sender.end()
        if self.poller:
            self.poller.end()
        self.receiver.stop()
        self._judges.stop()
        end = time.monotonic() + PATIENCE
        for part in (self.poller, self.sender):
            if part:
                part.stop(max(0.0, end - time.monotonic()))
        self.queue.close()


def describe_judge(predictor: Predictor, kinds: Collection[str]) -> str:
    """A text that is the same if, and only if, the results of an image would be the same."""
    point = f"{predictor.threshold!r} {predictor.prevalence!r}"
    return f"{predictor.bundle.sha256} {point} {__version__} {','.join(sorted(kinds))}"
