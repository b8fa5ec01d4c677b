"""Where the results of a node go: an application entity (C-STORE), or a DICOMweb server (STOW-RS)."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made by a loop over names
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
)

from pneumoscope.errors import UsageError

RESULT_CLASSES = (ComprehensiveSRStorage, SecondaryCaptureImageStorage, GrayscaleSoftcopyPresentationStateStorage)
RESULT_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]  # every destination takes the second one
#: The one instance of the Storage Commitment Push Model SOP class.
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"


class Unreachable(Exception):
    """The destination does not answer, or answers that it has no room at the moment."""


class Refused(Exception):
    """The destination refuses this answer."""


class Connection(Protocol):
    """An open connection to a destination."""

    def store(self, path: Path) -> None:
        """Send the result in a file, and return when the destination has it.

        Raises:
            Unreachable, Refused: see there.
        """

    def request_commitment(self, transaction_uid: str, references: Sequence[Dataset]) -> None:
        """Ask the destination to confirm that it keeps results; it answers later.

        Raises:
            Unreachable: it cannot be asked.
        """


class Destination(Protocol):
    """Takes results."""

    def connect(self) -> AbstractContextManager[Connection]:
        """Open a connection.

        Raises:
            Unreachable: see there.
        """


@dataclass(frozen=True)
class DicomDestination:
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
        """One association; see :class:`Destination`."""
        entity = AE(self.own_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.timeout
        entity.connection_timeout = min(self.timeout, 10.0)
        for result_class in RESULT_CLASSES:
            entity.add_requested_context(result_class, RESULT_SYNTAXES)
        entity.add_requested_context(StorageCommitmentPushModel)
        try:
            association = entity.associate(
                self.host, self.port, ae_title=self.aet, tls_args=(self.tls, self.host) if self.tls else None
            )
        except socket.gaierror as error:
            raise Unreachable(f"the name {self.host} is not known ({error.strerror})") from None
        except OSError as error:
            raise Unreachable(f"it cannot be reached ({error.strerror or type(error).__name__})") from None
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

    def request_commitment(self, transaction_uid: str, references: Sequence[Dataset]) -> None:
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = references
        try:
            status, _ = self._association.send_n_action(request, 1, StorageCommitmentPushModel, PUSH_MODEL_INSTANCE)
        except (ValueError, RuntimeError) as error:
            raise Unreachable(f"it offers no storage commitment: {error}") from None
        if getattr(status, "Status", None) != 0x0000:
            raise Unreachable("it does not take requests for storage commitment")


@dataclass(frozen=True)
class WebDestination:
    """A DICOMweb server that takes results by STOW-RS.

    Attributes:
        url: of the service, such as ``http://localhost:8042/dicom-web``.
    """

    url: str

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """See :class:`Destination`."""
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

    def request_commitment(self, transaction_uid: str, references: Sequence[Dataset]) -> None:
        raise Unreachable("storage commitment needs an application entity, not a DICOMweb server")


def parse_destination(text: str, own_aet: str, tls: ssl.SSLContext | None = None) -> Destination:
    """Read where results go, as a user types it: ``AET@HOST:PORT``, or the address of a DICOMweb server.

    Raises:
        UsageError: neither.

    >>> parse_destination("ORTHANC@localhost:4242", "PNEUMOSCOPE").port
    4242
    """
    if text.startswith(("http://", "https://")):
        return WebDestination(text.rstrip("/"))
    aet, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (0 < len(aet.strip()) <= 16 and host and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(
            f"expected AET@HOST:PORT, or http(s)://... of a DICOMweb server, received {text!r}: such as "
            "ORTHANC@localhost:4242"
        )
    return DicomDestination(aet.strip(), host.strip("[]"), int(port), own_aet, tls)
