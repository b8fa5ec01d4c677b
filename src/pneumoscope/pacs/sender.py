"""The thread of a node that answers: results on disk -> the receiver, by C-STORE or STOW-RS, until it has them.

A receiver that cannot be reached is asked again, after longer and longer pauses, without an end. A receiver that
refuses one answer gets it again a few times; then the answer is dead, with the reason.
"""

import logging
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made by a loop over names
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
)

from pneumoscope.errors import UsageError
from pneumoscope.pacs.commitments import PUSH_MODEL_INSTANCE, Commitments
from pneumoscope.pacs.queue import JUDGED, Queue, QueuedImage

_LOG = logging.getLogger(__name__)

RESULT_CLASSES = (ComprehensiveSRStorage, SecondaryCaptureImageStorage, GrayscaleSoftcopyPresentationStateStorage)
RESULT_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]  # every receiver takes the second one
#: Answers that are sent over one association.
BATCH = 50
#: Seconds of the first pause and of the longest one, where the receiver cannot be reached.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
#: How often an answer is offered to a receiver that refuses it.
MAX_ATTEMPTS = 5


class Unreachable(Exception):
    """The receiver does not answer, or answers that it has no room at the moment."""


class Refused(Exception):
    """The receiver refuses this answer."""


class Connection(Protocol):
    """An open connection to a receiver."""

    def store(self, path: Path) -> None:
        """Send the result in a file, and return when the receiver has it.

        Raises:
            Unreachable, Refused: see there.
        """

    def request_commitment(self, transaction_uid: str, paths: Sequence[Path]) -> None:
        """Ask the receiver to confirm that it keeps results; it answers later.

        Raises:
            Unreachable: it cannot be asked.
        """


class Receiver(Protocol):
    """Takes results."""

    def connect(self) -> AbstractContextManager[Connection]:
        """Open a connection.

        Raises:
            Unreachable: see there.
        """


@dataclass(frozen=True)
class DicomReceiver:
    """An application entity that takes results by C-STORE.

    Attributes:
        aet: its AE title.
        host, port: its address.
        own_aet: AE title of the node.
        tls: for an encrypted connection; None for a plain one.
        timeout: seconds to wait for an answer.
    """

    aet: str
    host: str
    port: int
    own_aet: str
    tls: ssl.SSLContext | None = None
    timeout: float = 60.0

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """One association; see :class:`Receiver`."""
        entity = AE(self.own_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.timeout
        entity.connection_timeout = min(self.timeout, 10.0)
        for result_class in RESULT_CLASSES:
            entity.add_requested_context(result_class, RESULT_SYNTAXES)
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate(
            self.host, self.port, ae_title=self.aet, tls_args=(self.tls, self.host) if self.tls else None
        )
        if not association.is_established:
            raise Unreachable("no association: it cannot be reached, or rejects this AE title")
        try:
            yield _Association(association)
        finally:
            if association.is_established:
                association.release()


class _Association:
    """See :class:`Connection`."""

    def __init__(self, association: Any) -> None:
        self._association = association

    def store(self, path: Path) -> None:
        try:
            status = self._association.send_c_store(pydicom.dcmread(path))
        except ValueError as error:  # no presentation context
            raise Refused(f"it does not accept this kind of object: {error}") from None
        except RuntimeError as error:  # the association has ended
            raise Unreachable(str(error)) from None
        code = getattr(status, "Status", None)
        if code is None:
            raise Unreachable("the association ended without an answer")
        if code == 0x0000 or code & 0xF000 == 0xB000:  # success, or a warning: it is stored
            return
        if code & 0xFF00 == 0xA700:
            raise Unreachable(f"it is out of resources (status {code:04X}H)")
        raise Refused(f"it answers with status {code:04X}H")

    def request_commitment(self, transaction_uid: str, paths: Sequence[Path]) -> None:
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = [_refer_to(path) for path in paths]
        try:
            status, _ = self._association.send_n_action(request, 1, StorageCommitmentPushModel, PUSH_MODEL_INSTANCE)
        except (ValueError, RuntimeError) as error:
            raise Unreachable(f"it offers no storage commitment: {error}") from None
        if getattr(status, "Status", None) != 0x0000:
            raise Unreachable("it does not take requests for storage commitment")


def _refer_to(path: Path) -> Dataset:
    result = pydicom.dcmread(path, stop_before_pixels=True)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = result.SOPClassUID, result.SOPInstanceUID
    return reference


@dataclass(frozen=True)
class WebReceiver:
    """A DICOMweb server that takes results by STOW-RS.

    Attributes:
        url: of the service, such as ``http://localhost:8042/dicom-web``.
    """

    url: str

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """See :class:`Receiver`."""
        from dicomweb_client import DICOMwebClient

        client = DICOMwebClient(self.url)
        client.set_chunk_size(2**20)
        yield _WebConnection(client)


class _WebConnection:
    """See :class:`Connection`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def store(self, path: Path) -> None:
        import requests

        try:
            answer = self._client.store_instances([pydicom.dcmread(path)])
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            if code in (408, 429) or code >= 500:
                raise Unreachable(f"it answers with HTTP {code}") from None
            raise Refused(f"it answers with HTTP {code}") from None
        except requests.RequestException as error:
            raise Unreachable(f"it cannot be reached ({type(error).__name__})") from None
        if answer.get("FailedSOPSequence"):
            reason = answer.FailedSOPSequence[0].get("FailureReason", 0)
            raise Refused(f"it answers with failure reason {reason:04X}H")

    def request_commitment(self, transaction_uid: str, paths: Sequence[Path]) -> None:
        raise Unreachable("storage commitment needs an application entity, not a DICOMweb server")


def parse_receiver(text: str, own_aet: str, tls: ssl.SSLContext | None = None) -> Receiver:
    """Read where results go, as a user types it: ``AET@HOST:PORT``, or the address of a DICOMweb server.

    Raises:
        UsageError: neither.

    >>> parse_receiver("ORTHANC@localhost:4242", "PNEUMOSCOPE").port
    4242
    """
    if text.startswith(("http://", "https://")):
        return WebReceiver(text.rstrip("/"))
    aet, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (0 < len(aet.strip()) <= 16 and host and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(
            f"expected AET@HOST:PORT, or http(s)://... of a DICOMweb server, received {text!r}: such as "
            "ORTHANC@localhost:4242"
        )
    return DicomReceiver(aet.strip(), host.strip("[]"), int(port), own_aet, tls)


class Sender:
    """A thread that sends the results of judged images.

    Args:
        queue: of the node.
        receiver: gets the results.
        pauses: seconds of the first and of the longest pause.
        max_attempts: how often an answer that is refused is offered.
        commitments: where the receiver is asked to confirm that it keeps the results; None if it is not asked.
    """

    def __init__(
        self,
        queue: Queue,
        receiver: Receiver,
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
        max_attempts: int = MAX_ATTEMPTS,
        commitments: Commitments | None = None,
    ) -> None:
        self._commitments = commitments
        self._queue, self._receiver, self._pauses, self._max_attempts = queue, receiver, pauses, max_attempts
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)
        #: Why the receiver could not be reached last; empty while it can.
        self.problem = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Tell the thread that there is something new."""
        self._wake.set()

    def stop(self) -> None:
        """Let the thread finish the answer that it sends, and wait for that."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        pause = 0.0
        refused: set[int] = set()  # they wait for the next round, so that they do not hold up the others
        while not self._stopping.is_set():
            if self._commitments and (old := self._commitments.withdraw_old()):
                _LOG.warning("%d requests for storage commitment had no answer; the results are sent again", old)
            images = self._queue.take(JUDGED, BATCH, refused)
            if not images:
                self._wake.wait(self._pauses[0] if refused else 1.0)
                self._wake.clear()
                refused.clear()
                continue
            stored: dict[Path, QueuedImage] = {}
            try:
                with self._receiver.connect() as connection:
                    refused |= self._send(connection, images, stored)
                    if stored and self._commitments:
                        self._request_commitment(connection, self._commitments, stored)
                self.problem, pause = "", 0.0
            except Unreachable as error:
                self.problem = str(error)
                pause = min(max(self._pauses[0], 2 * pause), self._pauses[1])
                _LOG.warning("the receiver of results: %s; next try in %.0f s", error, pause)
                self._stopping.wait(pause)
                stored.clear()
            finally:
                asked = {image.id for image in stored.values()} if self._commitments else set()
                for image in images:
                    if image.id not in asked:
                        self._queue.give_back(image)

    def _send(self, connection: Connection, images: Sequence[QueuedImage], stored: dict[Path, QueuedImage]) -> set[int]:
        """Send the results of some images.

        Args:
            connection: to the receiver.
            images: that were taken.
            stored: gets the results that the receiver has, where it is to confirm that it keeps them.

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
                reason = f"the receiver of results: {error}"
                self._queue.mark_failed(image, reason, final=image.attempts + 1 >= self._max_attempts)
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
        by_uid = {str(_refer_to(path).ReferencedSOPInstanceUID): image for path, image in stored.items()}
        commitments.ask(transaction, by_uid)
        try:
            connection.request_commitment(transaction, list(stored))
        except Unreachable:
            commitments.withdraw(transaction)
            raise
