"""The DICOM side that listens: C-ECHO and C-STORE, with limits on who may send, how much, and how fast."""

import logging
import sqlite3
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made by a loop over names
    StorageCommitmentPushModel,
    Verification,
)

from pneumoscope.errors import Busy, UsageError
from pneumoscope.pacs.commitments import Commitments
from pneumoscope.pacs.dicom_files import is_own_result
from pneumoscope.pacs.notes import Limiter
from pneumoscope.pacs.queue import Queue
from pneumoscope.radiographs.dicom.frames import TRANSFER_SYNTAXES
from pneumoscope.radiographs.dicom.reader import read_dataset
from pneumoscope.radiographs.dicom.reference import read_reference
from pneumoscope.radiographs.files import MAX_BYTES

_LOG = logging.getLogger(__name__)

#: SOP classes that are accepted: CR, DX for presentation, secondary capture in its single-frame and gray forms.
STORAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
)

#: Seconds that a connection may take to ask for an association.
MAX_HANDSHAKE = 10.0

# Status of a C-STORE (PS3.4, table B.2-1).
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000


@dataclass(frozen=True)
class Peer:
    """An application entity that may send.

    Attributes:
        aet: its AE title.
        host: its address; None for any.
    """

    aet: str
    host: str | None = None


@dataclass(frozen=True)
class Limits:
    """What one node takes.

    Attributes:
        associations: at the same time. Each is a thread.
        associations_per_minute: of one calling AE title; more are rejected as temporary congestion.
        pdu: bytes of a protocol data unit; what a peer may send at once.
        idle: seconds that a peer may be silent.
    """

    associations: int = 16
    associations_per_minute: int = 600
    pdu: int = 131_072
    idle: float = 30.0


@dataclass
class Counters:
    """What the receiver has done since it started.

    Attributes:
        accepted: images put into the queue.
        repeated: images that had been accepted before.
        own: results of this program that were sent back to it; they are not kept.
        refused: images by reason.
        rejected_associations: of those who may not send, or were too fast.
    """

    accepted: int = 0
    repeated: int = 0
    own: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    rejected_associations: int = 0


class Receiver:
    """Listens for images and puts them into a queue.

    Args:
        queue: takes the images.
        aet: AE title of the node; callers must use it.
        peers: who may send; empty for everybody, which is safe on this machine only.
        limits: see :class:`Limits`.
        on_accepted: called after an image was put into the queue.
        commitments: get the answers of an archive that was asked to confirm that it keeps results.
    """

    def __init__(
        self,
        queue: Queue,
        aet: str,
        peers: Sequence[Peer] = (),
        limits: Limits | None = None,
        on_accepted: Callable[[], None] = lambda: None,
        commitments: Commitments | None = None,
    ) -> None:
        self._commitments = commitments
        self.queue, self.aet, self.peers, self.limits = queue, aet, tuple(peers), limits or Limits()
        self.counters = Counters()
        self._on_accepted = on_accepted
        self._guard = threading.Lock()
        self._recent: dict[str, deque[float]] = {}
        self._limiter = Limiter()
        self._server: Any = None

    def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen in threads.

        Returns:
            The port, which the system chose if it was 0.

        Raises:
            UsageError: the address cannot be used.
        """
        entity = AE(self.aet)
        entity.require_called_aet = True
        entity.maximum_associations = self.limits.associations
        entity.maximum_pdu_size = self.limits.pdu
        entity.network_timeout = entity.dimse_timeout = self.limits.idle
        entity.acse_timeout = min(self.limits.idle, MAX_HANDSHAKE)
        entity.add_supported_context(Verification)
        for storage_class in STORAGE_CLASSES:
            entity.add_supported_context(storage_class, list(TRANSFER_SYNTAXES))
        if self._commitments:
            entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers: list[Any] = [
            *([(evt.EVT_N_EVENT_REPORT, self._commitments.handle_report)] if self._commitments else []),
            (evt.EVT_CONN_CLOSE, self._end_unopened),
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_REJECTED, self._note_rejection),
            (evt.EVT_PDU_RECV, self._check_size),
            (evt.EVT_DIMSE_RECV, self._check_message),
            (evt.EVT_C_STORE, self._store),
        ]
        try:
            self._server = entity.start_server((host, port), block=False, ssl_context=tls, evt_handlers=handlers)
        except OSError as error:
            raise UsageError(f"expected to listen on {host}:{port}, the system says {error.strerror}") from None
        return int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """Stop listening, and abort the open associations; what they have not sent whole is not accepted."""
        if self._server is not None:
            self._server.ae.shutdown()
            self._server = None

    def _end_unopened(self, event: Any) -> None:
        """End the thread of a connection that closed before it had asked for an association.

        pynetdicom lets it wait for the whole time limit, and it counts as an association: a few such connections, of a
        port scanner for example, would keep everybody else out.
        """
        if event.assoc.requestor.primitive is None:
            event.assoc.dul.to_user_queue.put(None)  # "nothing came", which is what the thread waits for

    def _check_caller(self, event: Any) -> None:
        """Reject an association of somebody who may not send, or who opens too many (PS3.8, section 9.3.4)."""
        association = event.assoc
        caller = _caller_of(association)
        address = str(association.requestor.address).removeprefix("::ffff:")  # IPv4 on a socket of both versions
        if self.peers and not any(peer.aet == caller and peer.host in (None, address) for peer in self.peers):
            is_known = any(peer.aet == caller for peer in self.peers)
            reason = "it comes from an address that --allow does not name" if is_known else "--allow does not name it"
            self._reject(association, 0x01, 0x01, 0x03, reason)  # permanent, user: calling AE title not recognised
        elif self._is_too_fast(caller):
            self._reject(association, 0x02, 0x03, 0x01, "too many in a minute")  # transient: temporary congestion

    def _reject(self, association: Any, result: int, source: int, code: int, reason: str) -> None:
        self._count("rejected_associations")
        self._say(association, "an association of {} was rejected: " + reason)
        association.acse.send_reject(result, source, code)
        association.kill()

    def _note_rejection(self, event: Any) -> None:
        """Note an association that pynetdicom rejected itself: another called AE title, or too many at once."""
        self._count("rejected_associations")
        called = str(event.assoc.requestor.primitive.called_ae_title or "").strip()
        reason = (
            "too many at the same time" if called == self.aet.strip() else f"it called {called!r}, not {self.aet!r}"
        )
        self._say(event.assoc, "an association of {} was rejected: " + reason)

    def _say(self, association: Any, sentence: str) -> None:
        """Put a sentence on standard error, for one AE title at most once a minute; ``{}`` stands for the title.

        Associations and images have a minute of their own each.
        """
        start, _, end = sentence.partition("{}")
        caller = _caller_of(association)
        if self._limiter.allows(start + caller):
            _LOG.warning("%s%r%s", start, caller, end)

    def _is_too_fast(self, caller: str) -> bool:
        now = time.monotonic()
        with self._guard:
            if caller not in self._recent and len(self._recent) > 1000:  # a peer cannot fill the memory with titles
                self._recent.clear()
            times = self._recent.setdefault(caller, deque())
            while times and now - times[0] > 60:
                times.popleft()
            if len(times) >= self.limits.associations_per_minute:
                return True
            times.append(now)
            return False

    def _check_size(self, event: Any) -> None:
        """Abort an association that sends one message larger than any image that is read."""
        message = event.assoc.dimse.message
        data = getattr(message, "data_set", None) if message else None
        if data is not None and data.getbuffer().nbytes > MAX_BYTES:
            _LOG.warning("a peer sent more than %d MB in one message; association aborted", MAX_BYTES // 10**6)
            event.assoc.abort()

    def _check_message(self, event: Any) -> None:
        """Abort an association whose request has no data set: pynetdicom ignores it, and the peer would wait."""
        message = event.message
        if isinstance(message, C_STORE_RQ) and not (message.data_set and message.data_set.getbuffer().nbytes):
            event.assoc.abort()

    def _store(self, event: Any) -> int:
        """Put one image into the queue; Success means that it is on disk."""
        try:
            data = event.encoded_dataset()
            dataset = read_dataset(data, MAX_BYTES)
            reference, is_own = read_reference(dataset), is_own_result(dataset)
            uid = str(event.request.AffectedSOPInstanceUID)
            caller = _caller_of(event.assoc)
        except Exception:  # of the decoders; the message may contain patient data
            return self._refuse(event, CANNOT_UNDERSTAND, "cannot be understood")
        if reference.sop_instance_uid != uid or not (reference.study_instance_uid and reference.series_instance_uid):
            return self._refuse(event, DOES_NOT_MATCH, "its UIDs are missing, or not those of the request")
        if is_own:  # a rule of the PACS may send whole studies, with the results of this node; they are not judged
            self._count("own")
            return SUCCESS
        try:
            is_new = self.queue.accept(data, uid, caller)
        except Busy:
            return self._refuse(event, OUT_OF_RESOURCES, "the queue is full")
        except (OSError, sqlite3.Error) as error:
            _LOG.error("an image cannot be kept: %s", error)
            return self._refuse(event, OUT_OF_RESOURCES, "the disk of the queue failed")
        self._count("accepted" if is_new else "repeated")
        self._on_accepted()
        return SUCCESS

    def _count(self, name: str) -> None:
        with self._guard:
            setattr(self.counters, name, getattr(self.counters, name) + 1)

    def _refuse(self, event: Any, status: int, reason: str) -> int:
        with self._guard:
            self.counters.refused[reason] = self.counters.refused.get(reason, 0) + 1
        self._say(event.assoc, f"an image of {{}} was refused: {reason} (status {status:04X}H)")
        return status


def _caller_of(association: Any) -> str:
    """The calling AE title."""
    return str(association.requestor.primitive.calling_ae_title or "").strip()
