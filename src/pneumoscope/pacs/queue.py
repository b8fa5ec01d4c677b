"""The images that a node has accepted, on disk: what was accepted is answered, and answered once, whatever happens.

A folder with an SQLite database, the received files, and the results that wait to be sent::

    received   the image is on disk, not judged yet
    judged     its results are on disk, not delivered yet
    delivered  the receiver has them; image and results are deleted
    dead       it cannot be answered; the reason is kept, and the image until it is purged

An image is identified by its SOPInstanceUID and by what judges it. A copy that comes again is accepted, and not
answered again; one that is dead gets another chance.
"""

import logging
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pneumoscope.errors import Busy, UsageError
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.locks import lock_file

_LOG = logging.getLogger(__name__)

RECEIVED, JUDGED, DELIVERED, DEAD = "received", "judged", "delivered", "dead"
STATES = (RECEIVED, JUDGED, DELIVERED, DEAD)
#: How often an answer is offered to somebody who refuses it.
MAX_ATTEMPTS = 5
#: Bytes of the disk that received images leave free. Without room for results, nothing could be answered and deleted.
RESERVE = 32_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sop_instance_uid TEXT NOT NULL,
    judge TEXT NOT NULL,
    calling_aet TEXT NOT NULL,
    state TEXT NOT NULL,
    file TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    received_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    UNIQUE (sop_instance_uid, judge)
);
CREATE INDEX IF NOT EXISTS images_by_state ON images (state, id);
"""


@dataclass(frozen=True)
class QueuedImage:
    """One row of the queue.

    Attributes:
        id: number of the row, in the order of arrival.
        sop_instance_uid: of the image.
        calling_aet: application entity that sent it.
        state: one of :data:`STATES`.
        path: of the received file; it exists until the answer is delivered.
        attempts: how often the answer could not be delivered.
        reason: of the last failure; empty if there was none.
        received_at, changed_at: UTC, for people only: the order of work does not depend on a clock.
    """

    id: int
    sop_instance_uid: str
    calling_aet: str
    state: str
    path: Path
    attempts: int
    reason: str
    received_at: str
    changed_at: str


class Queue:
    """A queue in a folder. One process works on it at a time; its threads share one object.

    Args:
        folder: made if it is not there.
        judge: what judges the images: the same text for the same model, operating point and kinds of results.
        quota: bytes of received files that may wait; 0 for no limit.
        reserve: bytes of the disk that received files leave free.
        exclusive: lock the folder, as the node does; the commands that only look do not.

    Raises:
        UsageError: another process has the lock, or the folder cannot be used.
    """

    def __init__(
        self, folder: Path, judge: str, quota: int = 0, exclusive: bool = True, reserve: int = RESERVE
    ) -> None:
        self.folder, self.judge, self.quota, self.reserve = folder, judge, quota, reserve
        self._guard = threading.RLock()
        self._taken: set[int] = set()
        self._lock: BinaryIO | None = None
        try:
            for part in (self._received_folder, self._results_folder):
                part.mkdir(parents=True, exist_ok=True)
            if exclusive:
                self._lock = (folder / ".lock").open("ab")
                lock_file(self._lock, folder)
            self._database = sqlite3.connect(
                folder / "queue.sqlite", timeout=30, isolation_level=None, check_same_thread=False
            )
            self._database.row_factory = sqlite3.Row
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # on disk before a commit returns
            self._database.executescript(_SCHEMA)
            if exclusive:
                self._adopt_images()
                self._delete_orphans()
        except BlockingIOError:
            self._unlock()
            raise UsageError(f"expected {folder} to be free, another node works on it: name another folder") from None
        except (OSError, sqlite3.Error) as error:
            self._unlock()
            raise UsageError(f"expected a folder for the queue at {folder}: {error}") from None

    @property
    def _received_folder(self) -> Path:
        return self.folder / "received"

    @property
    def _results_folder(self) -> Path:
        return self.folder / "results"

    def accept(self, data: bytes, sop_instance_uid: str, calling_aet: str) -> bool:
        """Take an image. When this returns, the image is on disk.

        Returns:
            False if this image was taken before and is not dead: nothing is written then.

        Raises:
            Busy: the quota or the disk is full.
            OSError: the disk is full, or another fault of it.
            sqlite3.Error: the same, of the database.
        """
        with self._guard:
            known = self._find(sop_instance_uid)
            if known and known["state"] != DEAD:
                return False
            if self.quota and self.waiting_bytes() + len(data) > self.quota:
                raise Busy("expected room in the queue, its quota is full: wait until answers are delivered")
            if shutil.disk_usage(self.folder).free < self.reserve + len(data):
                raise Busy(
                    "expected room on the disk of the queue, it is nearly full: wait until answers are delivered"
                )
        name = f"{secrets.token_hex(16)}.dcm"
        path = self._received_folder / name
        write_atomic(path, data, durable=True)
        try:
            with self._guard, self._database:
                self._database.execute("BEGIN IMMEDIATE")
                before = self._find(sop_instance_uid)
                if before and before["state"] != DEAD:  # it came twice at the same time
                    path.unlink()
                    return False
                if before:
                    self._execute(
                        "UPDATE images SET state = ?, file = ?, bytes = ?, attempts = 0, reason = '', calling_aet = ?",
                        RECEIVED, name, len(data), calling_aet, image=before["id"],
                    )  # fmt: skip
                    (self._received_folder / before["file"]).unlink(missing_ok=True)
                else:
                    self._database.execute(
                        "INSERT INTO images (sop_instance_uid, judge, calling_aet, state, file, bytes) "
                        "VALUES (?, ?, ?, ?, ?, ?)",
                        (sop_instance_uid, self.judge, calling_aet, RECEIVED, name, len(data)),
                    )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return True

    def knows(self, sop_instance_uid: str) -> bool:
        """Whether :meth:`accept` would not take an image, because it was taken before, or is dead."""
        with self._guard:
            return self._find(sop_instance_uid) is not None

    def take(self, state: str, limit: int = 1, exclude: Iterable[int] = ()) -> list[QueuedImage]:
        """The first images in a state that no other thread has taken; :meth:`give_back` or a change of state ends it.

        Args:
            state: such as :data:`RECEIVED`.
            limit: at most so many.
            exclude: ids that are not wanted now.
        """
        with self._guard:
            left_out = self._taken | set(exclude)
            rows = self._database.execute(
                "SELECT * FROM images WHERE state = ? ORDER BY id LIMIT ?", (state, limit + len(left_out))
            )
            images = [self._image(row) for row in rows if row["id"] not in left_out][:limit]
            self._taken.update(image.id for image in images)
            return images

    def give_back(self, image: QueuedImage) -> None:
        """Let other threads take an image whose state stays as it is."""
        with self._guard:
            self._taken.discard(image.id)

    def mark_judged(self, image: QueuedImage, results: Mapping[str, bytes]) -> None:
        """Keep the results of an image on disk, and wait for their delivery.

        Args:
            image: that was taken.
            results: content of the DICOM files, by kind.
        """
        for kind, content in results.items():
            write_atomic(self._results_folder / f"{image.id}.{kind}.dcm", content, durable=True)
        self._change(image, JUDGED)

    def results_of(self, image: QueuedImage) -> dict[str, Path]:
        """The files with the results of a judged image, by kind."""
        paths = sorted(self._results_folder.glob(f"{image.id}.*.dcm"))
        return {path.name.split(".")[1]: path for path in paths}

    def mark_delivered(self, image: QueuedImage) -> None:
        """Delete the image and its results; the row stays, so that a copy is recognised."""
        self._change(image, DELIVERED)
        self._delete_files(image)

    def mark_failed(self, image: QueuedImage, reason: str, final: bool) -> None:
        """Note why an image could not be answered.

        Args:
            image: that was taken.
            reason: one sentence.
            final: do not try again.
        """
        with self._guard, self._database:
            self._execute(
                "UPDATE images SET attempts = attempts + 1, reason = ?, state = ?",
                reason, DEAD if final else image.state, image=image.id,
            )  # fmt: skip
        self.give_back(image)
        if final:
            _LOG.warning("image %d is dead: %s", image.id, reason)

    def mark_refused(self, image: QueuedImage, reason: str) -> None:
        """Note that somebody refused an answer, who gets it again until :data:`MAX_ATTEMPTS`."""
        self.mark_failed(image, reason, final=image.attempts + 1 >= MAX_ATTEMPTS)

    def retry(self, ids: Iterable[int] | None = None) -> int:
        """Give dead images another chance.

        Args:
            ids: of the images; all dead ones by default.

        Returns:
            How many. An image whose file is gone stays dead.
        """
        count = 0
        with self._guard, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for image in self.images(DEAD):
                if (ids is None or image.id in set(ids)) and image.path.is_file():
                    state = JUDGED if self.results_of(image) else RECEIVED
                    self._execute("UPDATE images SET state = ?, attempts = 0, reason = ''", state, image=image.id)
                    count += 1
        return count

    def purge(self, state: str) -> int:
        """Forget delivered or dead images; a copy that comes afterwards is answered again.

        Returns:
            How many.

        Raises:
            UsageError: a state whose images still wait for their answer.
        """
        if state not in (DELIVERED, DEAD):
            raise UsageError(f"expected {DELIVERED} or {DEAD} to purge, received {state}: others still wait")
        images = self.images(state)
        with self._guard, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for image in images:
                self._database.execute("DELETE FROM images WHERE id = ? AND state = ?", (image.id, state))
        for image in images:
            self._delete_files(image)
        return len(images)

    def images(self, *states: str) -> list[QueuedImage]:
        """The rows in some states, in all by default, of every judge, in the order of arrival."""
        wanted = states or STATES
        marks = ", ".join("?" * len(wanted))
        with self._guard:
            rows = self._database.execute(f"SELECT * FROM images WHERE state IN ({marks}) ORDER BY id", wanted)
            return [self._image(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Number of images by state."""
        with self._guard:
            rows = self._database.execute("SELECT state, count(*) AS n FROM images GROUP BY state")
            return dict.fromkeys(STATES, 0) | {row["state"]: row["n"] for row in rows}

    def waiting_bytes(self) -> int:
        """Bytes of the received files that are still on disk."""
        with self._guard:
            # The states by name, so that the index serves: delivered rows become many, and each image asks.
            query = "SELECT coalesce(sum(bytes), 0) FROM images WHERE state IN (?, ?, ?)"
            return int(self._database.execute(query, (RECEIVED, JUDGED, DEAD)).fetchone()[0])

    def close(self) -> None:
        """Close the database and unlock the folder."""
        with self._guard:
            self._database.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock:
            self._lock.close()

    def _change(self, image: QueuedImage, state: str) -> None:
        with self._guard, self._database:
            self._execute("UPDATE images SET state = ?, attempts = 0, reason = ''", state, image=image.id)
        self.give_back(image)

    def _execute(self, update: str, *values: Any, image: int) -> None:
        """Run an update of one row, and note when."""
        self._database.execute(
            f"{update}, changed_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id = ?", (*values, image)
        )

    def _find(self, sop_instance_uid: str) -> sqlite3.Row | None:
        """The row of an image for this judge."""
        query = "SELECT id, state, file FROM images WHERE sop_instance_uid = ? AND judge = ?"
        row: sqlite3.Row | None = self._database.execute(query, (sop_instance_uid, self.judge)).fetchone()
        return row

    def _image(self, row: sqlite3.Row) -> QueuedImage:
        return QueuedImage(
            row["id"], row["sop_instance_uid"], row["calling_aet"], row["state"], self._received_folder / row["file"],
            row["attempts"], row["reason"], row["received_at"], row["changed_at"],
        )  # fmt: skip

    def _delete_files(self, image: QueuedImage) -> None:
        for path in (image.path, *self.results_of(image).values()):
            path.unlink(missing_ok=True)

    def _adopt_images(self) -> None:
        """Let this judge judge the images that another one accepted, such as another model, and left."""
        with self._guard, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("UPDATE OR IGNORE images SET judge = ? WHERE state = ?", (self.judge, RECEIVED))
            # What is left came again, and was accepted for this judge.
            self._database.execute("DELETE FROM images WHERE judge != ? AND state = ?", (self.judge, RECEIVED))

    def _delete_orphans(self) -> None:
        """Delete files that belong to no waiting image: a process was killed before it noted them, or deleted them."""
        images = self.images(RECEIVED, JUDGED, DEAD)
        received = {image.path.name for image in images}
        judged = {str(image.id) for image in images if image.state in (JUDGED, DEAD)}
        for path in self._received_folder.iterdir():
            if path.name not in received:
                path.unlink()
        for path in self._results_folder.iterdir():
            if path.name.split(".")[0] not in judged:
                path.unlink()
