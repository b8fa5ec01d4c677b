"""Where the results of a node go: an application entity (C-STORE), or a DICOMweb server (STOW-RS)."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
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

#: Status Duplicate SOP Instance (PS3.7, section C.5.7): the destination has this result already.
DUPLICATE = 0x0111
#: Seconds to wait for a connection, and for an answer of a DICOMweb server.
CONNECT_TIMEOUT, WEB_TIMEOUT = 10.0, 60.0
_PROBE_TIMEOUT = 3.0


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
        entity = _Entity(self.own_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.timeout
        entity.connection_timeout = min(self.timeout, CONNECT_TIMEOUT)
        for result_class in RESULT_CLASSES:
            entity.add_requested_context(result_class, RESULT_SYNTAXES)
        entity.add_requested_context(StorageCommitmentPushModel)
        opened: list[bool] = []
        try:
            association = entity.associate(
                self.host,
                self.port,
                ae_title=self.aet,
                tls_args=(self.tls, self.host) if self.tls else None,
                evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: opened.append(True))],
            )
        except OSError as error:
            raise Unreachable(self._describe_network_error(error)) from None
        if not association.is_established:
            raise Unreachable(self._describe_failure(association, bool(opened)))
        try:
            yield _Association(association)
        finally:
            if association.is_established:
                association.release()

    def _describe_failure(self, association: Any, was_opened: bool) -> str:
        """Why there is no association: no connection, TLS, a rejection, or an abort."""
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            return (
                f"it rejects the association, {answer.result_str.lower()}: {answer.reason_str}; it was called "
                f"{self.aet}, by {self.own_aet}"
            )
        if answer is not None:
            return "it takes none of the kinds of results, or cut the association off"
        if was_opened:
            return (
                f"the connection to {self.host}:{self.port} was cut off, or nothing answered: check whether this is "
                "the port of DICOM, and whether both sides use TLS with certificates that the other side accepts"
            )
        try:  # pynetdicom does not say why it could not connect
            with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT):
                pass
        except OSError as error:
            return self._describe_network_error(error)
        if self.tls:
            return (
                f"TLS failed at {self.host}:{self.port}: check whether the port takes TLS, and its certificate against "
                "--tls-ca"
            )
        return f"the connection to {self.host}:{self.port} failed"

    def _describe_network_error(self, error: OSError) -> str:
        if isinstance(error, socket.gaierror):
            return f"the name {self.host} is not known ({error.strerror})"
        return f"it cannot be reached at {self.host}:{self.port} ({error.strerror or 'no answer in time'})"


class _Entity(AE):
    """An application entity whose connections end with the program, also while they are being opened."""

    def _create_socket(self, association: Any, *arguments: Any) -> Any:
        association.dul.daemon = True  # else a program that ends would wait for it
        return super()._create_socket(association, *arguments)


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
        if code in (0x0000, DUPLICATE) or code & 0xF000 == 0xB000:  # success, or a warning: it is stored
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
        client = open_web_client(self.url)
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
            # Another address, a password, or a server at fault: nothing is wrong with the result.
            if code in (401, 403, 404, 405, 407, 408, 429) or code >= 500:
                raise Unreachable(describe_web_error(error, self._client.base_url)) from None
            raise Refused(describe_web_error(error, self._client.base_url)) from None
        except requests.RequestException as error:
            raise Unreachable(describe_web_error(error, self._client.base_url)) from None
        if answer.get("FailedSOPSequence"):
            reason = answer.FailedSOPSequence[0].get("FailureReason", 0)
            if reason == DUPLICATE:
                return
            raise Refused(f"it answers with failure reason {reason:04X}H")

    def request_commitment(self, transaction_uid: str, references: Sequence[Dataset]) -> None:
        raise Unreachable("storage commitment needs an application entity, not a DICOMweb server")


def open_web_client(url: str) -> Any:
    """A client of a DICOMweb server, which gives up soon: the node asks again itself."""
    from dicomweb_client import DICOMwebClient

    client = DICOMwebClient(url, timeout=(CONNECT_TIMEOUT, WEB_TIMEOUT))
    client.set_http_retry_params(retry=False)
    return client


def describe_web_error(error: Exception, url: str) -> str:
    """Why a DICOMweb server did not do what it was asked; the address without name and password.

    Args:
        error: of requests.
        url: of the service.
    """
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    response = getattr(error, "response", None)
    if response is not None:
        return f"it answers with HTTP {response.status_code} at {address}"
    return f"it cannot be reached at {address} ({type(error).__name__})"


def check_web_address(url: str, option: str) -> None:
    """Check the form of the address of a DICOMweb server.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_valid = False
    if not is_valid:
        raise UsageError(
            f"expected {option} as the http(s)://... address of a DICOMweb server, received {url!r}: such as "
            "http://localhost:8042/dicom-web"
        )


def parse_destination(text: str, own_aet: str, tls: ssl.SSLContext | None = None) -> Destination:
    """Read where results go, as a user types it: ``AET@HOST:PORT``, or the address of a DICOMweb server.

    Raises:
        UsageError: neither.

    >>> parse_destination("ORTHANC@localhost:4242", "PNEUMOSCOPE").port
    4242
    """
    if text.startswith(("http://", "https://")):
        check_web_address(text, "--reply-to")
        return WebDestination(text.rstrip("/"))
    aet, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (0 < len(aet.strip()) <= 16 and host and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(
            f"expected AET@HOST:PORT, or http(s)://... of a DICOMweb server, received {text!r}: such as "
            "ORTHANC@localhost:4242"
        )
    return DicomDestination(aet.strip(), host.strip("[]"), int(port), own_aet, tls)
