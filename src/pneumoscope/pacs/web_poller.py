"""The thread of a node that fetches: radiographs on a DICOMweb server (QIDO-RS, WADO-RS) -> the queue."""

import datetime
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import requests

from pneumoscope.errors import Busy
from pneumoscope.pacs.destinations import describe_web_error, open_web_client
from pneumoscope.pacs.dicom_files import encode_file
from pneumoscope.pacs.notes import describe_error
from pneumoscope.pacs.queue import Queue

_LOG = logging.getLogger(__name__)

#: Modalities that are asked for. A secondary capture of a radiograph cannot be told from other pictures by a query.
MODALITIES = ("CR", "DX")
#: What stands for the sender of a fetched image in the queue.
SENDER = "DICOMWEB"

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"


class WebPoller:
    """Asks a server again and again for radiographs that the queue does not know.

    Args:
        queue: takes the images.
        url: of the DICOMweb service.
        seconds: between two questions.
        days: age of the studies that are asked for, by StudyDate; 0 is today only.
        studies: StudyInstanceUIDs; only these are asked for, whatever their date.
        on_accepted: called after an image was put into the queue.
    """

    def __init__(
        self,
        queue: Queue,
        url: str,
        seconds: float = 60.0,
        days: int = 1,
        studies: Sequence[str] = (),
        on_accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue, self._seconds, self._days, self._studies = queue, seconds, days, tuple(studies)
        self._client, self._on_accepted = open_web_client(url), on_accepted
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="web-poller", daemon=True)
        #: Why the server could not be asked last; empty while it can.
        self.problem = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """Let the thread begin no other image."""
        self._stopping.set()

    def stop(self, seconds: float | None = None) -> None:
        """Let the thread finish the image that it fetches, and wait for that.

        Args:
            seconds: to wait at most. A thread that still waits for its server then ends with the program; the next node
                fetches the image.
        """
        self.end()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def poll(self) -> int:
        """Ask once; returns the number of new images.

        An image that the server does not give, or gives damaged, holds up no other; it is asked for again next time.

        Raises:
            requests.RequestException: the server cannot be asked.
            Busy, OSError, sqlite3.Error: the queue cannot take an image.
            Exception: the problem of the last image that could not be fetched, after all others.
        """
        count, problem = 0, None
        for study, series in self._find_series():
            for found in self._client.search_for_instances(study, series, get_remaining=True):
                instance = _value(found, _INSTANCE)
                if self._stopping.is_set():
                    return count
                if not instance or self._queue.knows(instance):
                    continue
                try:
                    dataset = self._client.retrieve_instance(
                        study, series, instance, media_types=(("application/dicom", "*"),)
                    )
                    data = encode_file(dataset)
                except (requests.ConnectionError, requests.Timeout):
                    raise
                except Exception as error:  # of this image
                    problem = error
                    continue
                count += self._queue.accept(data, instance, SENDER)
                self._on_accepted()
        if problem is not None:
            raise problem
        return count

    def _find_series(self) -> Iterator[tuple[str, str]]:
        since = datetime.date.today() - datetime.timedelta(days=self._days)
        wanted = [{"StudyInstanceUID": study} for study in self._studies] or [{"StudyDate": f"{since:%Y%m%d}-"}]
        for filters in wanted:
            for modality in MODALITIES:
                for found in self._client.search_for_series(
                    search_filters=filters | {"Modality": modality}, get_remaining=True
                ):
                    yield _value(found, _STUDY), _value(found, _SERIES)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
                self.problem = ""
            except Exception as error:  # this thread must not end: nothing would be fetched any more
                if self._stopping.is_set():  # the queue may be closed
                    return
                self.problem = self._describe(error)
                _LOG.warning("%s", self.problem)
            self._stopping.wait(self._seconds)

    def _describe(self, error: Exception) -> str:
        if isinstance(error, requests.RequestException):
            return f"the DICOMweb server: {describe_web_error(error, self._client.base_url)}"
        if isinstance(error, Busy | OSError | sqlite3.Error):
            return f"the queue cannot take an image: {error}"
        # An answer that is no DICOM JSON, or no DICOM.
        return f"the DICOMweb server gave an answer that cannot be read ({describe_error(error)})"


def _value(found: dict[str, Any], tag: str) -> str:
    """The first value of an element in DICOM JSON (PS3.18, annex F); empty if there is none."""
    values = found.get(tag, {}).get("Value") or [""]
    return str(values[0])
