"""Does a node answer every image that it accepted, once, whatever happens to it and around it?

    python benchmarks/pacs/soak_node.py --images 2000 --kills 20

Four associations at a time (pynetdicom) send radiographs, each another instance, to a node (``pneumoscope node``). The
node answers with reports to an archive, dcmtk's ``storescp``, which keeps each object that it receives in a file of its
own, also one that comes twice. Meanwhile, at random moments,

- the node is killed (SIGKILL) and started again on the same queue, ``--kills`` times;
- the archive is away for some seconds, three times, the last time for a minute;
- connections of the senders end in the middle;
- one sender is slow.

Then the archive must have one report of every image whose C-STORE was answered with Success. A report may lie there
twice only with the same UID, when a kill fell between sending and noting. Last, the throughput of the node is printed
beside that of ``storescp`` alone, which judges nothing.

With ``--full-disk DIR``, a small file system such as a tmpfs of 64 MB, the queue of a second, short run is there: the
node must refuse images while it is full (status A700H), and answer all that it accepted.
"""

import argparse
import collections
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from pneumoscope import read_radiograph, sample_paths
from pneumoscope.pacs.queue import JUDGED, RECEIVED, Queue


def make_radiographs(number: int) -> list[Dataset]:
    """Small radiographs of many studies, each another instance."""
    pixels = [read_radiograph(path).pixels[::4, ::4].copy() for path in sample_paths()]
    datasets = []
    for index in range(number):
        image = pixels[index % len(pixels)]
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.PatientName, dataset.PatientID, dataset.Modality = f"Soak^{index}", str(index), "CR"
        dataset.Rows, dataset.Columns = image.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        data = image.tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        datasets.append(dataset)
    return datasets


class Archive:
    """storescp of dcmtk; every object becomes a file of its own, whatever its UID."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = ["storescp", "--fork", "-aet", "ARCHIVE", "-od", self.folder, "-uf", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def reports(self) -> list[tuple[str, str]]:
        """SOPInstanceUID of each report, and of the image that it is about."""
        found = []
        for path in self.folder.iterdir():
            report = pydicom.dcmread(path)
            series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
            found.append((report.SOPInstanceUID, series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        return found


class NodeProcess:
    """``pneumoscope node`` as a process that can be killed and started again."""

    def __init__(self, queue: Path, receiver: str) -> None:
        self.port, self.queue = free_port(), queue
        self._command = [
            sys.executable, "-m", "pneumoscope", "node", "--reply-to", receiver, "--queue", str(queue),
            "--result", "SR", "--port", str(self.port), "--max-rate", "1000000",
        ]  # fmt: skip
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        line = self._process.stderr.readline()
        if "listens on" not in line:
            raise SystemExit(f"the node did not start: {line}")
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(60):
            raise SystemExit(f"the node ended with {self._process.returncode}")


class Senders:
    """Associations that send until every image was accepted, or refused as often as a sender tries."""

    def __init__(
        self, datasets: list[Dataset], port: int, aet: str, abort: float = 0.0, slow: float = 0.0, number: int = 4
    ) -> None:
        self._waiting = collections.deque(datasets)
        self._port, self._aet, self._abort, self._slow = port, aet, abort, slow
        self.accepted: list[str] = []
        self.statuses: collections.Counter[str] = collections.Counter()
        self._threads = [threading.Thread(target=self._send, args=(index,)) for index in range(number)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def is_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _send(self, index: int) -> None:
        chance = random.Random(index)
        while self._waiting:
            entity = AE(f"SENDER{index}")
            entity.acse_timeout = entity.network_timeout = 20
            entity.dimse_timeout = 5  # after its own abort, pynetdicom waits so long for an answer
            entity.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
            association = entity.associate("127.0.0.1", self._port, ae_title=self._aet)
            while association.is_established and self._waiting:
                try:
                    dataset = self._waiting.popleft()
                except IndexError:
                    break
                if index == 0:
                    time.sleep(self._slow)
                if chance.random() < self._abort:
                    threading.Timer(chance.uniform(0, 0.01), lose_connection, [association]).start()
                code = self._store(association, dataset)
                self.statuses[code] += 1
                if code == "0000":
                    self.accepted.append(str(dataset.SOPInstanceUID))
                else:
                    self._waiting.append(dataset)  # as a modality does: try again
                    time.sleep(0.1)
            with contextlib.suppress(Exception):
                association.release()
            time.sleep(0.05)

    def _store(self, association: object, dataset: Dataset) -> str:
        try:
            status = association.send_c_store(dataset)
        except (RuntimeError, ValueError, AttributeError):  # the association ended
            return "ended"
        return f"{status.Status:04X}" if "Status" in status else "no answer"


def lose_connection(association: object) -> None:
    """End a connection in the middle of whatever it carries, as a network does."""
    with contextlib.suppress(OSError, AttributeError):  # it may be closed already
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as each:
        return each.getsockname()[1]


def wait_for_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")


def soak(folder: Path, images: int, kills: int, seed: int) -> bool:
    """Send, kill, and compare; returns whether every accepted image was answered once."""
    chance = random.Random(seed)
    archive = Archive(folder / "archive")
    archive.start()
    node = NodeProcess(folder / "queue", f"ARCHIVE@127.0.0.1:{archive.port}")
    node.start()
    senders = Senders(make_radiographs(images), node.port, "PNEUMOSCOPE", abort=0.01, slow=0.05)
    begin = time.monotonic()
    senders.start()
    away = threading.Thread(target=_be_away, args=(archive, chance))
    away.start()
    for done in range(kills):
        time.sleep(chance.uniform(0.5, 6))
        node.kill()
        node.start()
        print(f"kill {done + 1}: {len(senders.accepted)} accepted", flush=True)
    senders.join()
    away.join()
    wait_until_delivered(node.queue)
    seconds = time.monotonic() - begin
    node.stop()
    archive.stop()
    reports = archive.reports()
    by_image = collections.defaultdict(set)
    for uid, image in reports:
        by_image[image].add(uid)
    missing = set(senders.accepted) - set(by_image)
    several = [image for image, uids in by_image.items() if len(uids) > 1]
    repeats = len(reports) - len({uid for uid, _ in reports})
    unasked = set(by_image) - set(senders.accepted)
    print(f"{images} images in {seconds:.0f} s, {kills} kills; answers of the node: {dict(senders.statuses)}")
    print(f"accepted {len(set(senders.accepted))}, without a report {len(missing)}, with two reports {len(several)}")
    print(f"reports in the archive {len(reports)}, of them sent again after a kill, with the same UID: {repeats}")
    print(f"reports of images whose Success did not reach the sender: {len(unasked)}")
    return not missing and not several


def _be_away(archive: Archive, chance: random.Random) -> None:
    for seconds in (3, 10, 60):
        time.sleep(chance.uniform(2, 8))
        archive.stop()
        time.sleep(seconds)
        archive.start()


def wait_until_delivered(folder: Path) -> None:
    looking = Queue(folder, "", exclusive=False)
    while True:
        counts = looking.counts()
        if not counts[RECEIVED] + counts[JUDGED]:
            break
        time.sleep(0.5)
    print(f"queue at the end: {counts}")
    looking.close()


def throughput(folder: Path, images: int) -> None:
    """Print images a second: stored in storescp, accepted by a node, and answered by it."""
    archive = Archive(folder / "alone")
    archive.start()
    begin = time.monotonic()
    senders = Senders(make_radiographs(images), archive.port, "ARCHIVE")
    senders.start()
    senders.join()
    alone = images / (time.monotonic() - begin)
    archive.stop()
    archive = Archive(folder / "reports")
    archive.start()
    node = NodeProcess(folder / "fast", f"ARCHIVE@127.0.0.1:{archive.port}")
    node.start()
    begin = time.monotonic()
    senders = Senders(make_radiographs(images), node.port, "PNEUMOSCOPE")
    senders.start()
    senders.join()
    accepted = images / (time.monotonic() - begin)
    wait_until_delivered(node.queue)
    answered = images / (time.monotonic() - begin)
    node.stop()
    archive.stop()
    print(f"images a second: storescp alone {alone:.0f}, the node accepts {accepted:.0f} and answers {answered:.0f}")


def full_disk(folder: Path, small: Path) -> bool:
    """A queue on a small file system: images are refused while it is full, and none that was accepted is lost."""
    archive = Archive(folder / "full")
    queue = small / "queue"
    node = NodeProcess(queue, f"ARCHIVE@127.0.0.1:{archive.port}")
    node.start()
    senders = Senders(make_radiographs(400), node.port, "PNEUMOSCOPE")
    senders.start()
    while not senders.statuses["A700"] and senders.is_alive():  # the archive is away, so the queue fills
        time.sleep(0.1)
    archive.start()
    senders.join()
    wait_until_delivered(queue)
    node.stop()
    archive.stop()
    images = {image for _, image in archive.reports()}
    missing = set(senders.accepted) - images
    print(f"small disk: answers of the node {dict(senders.statuses)}; without a report {len(missing)}")
    shutil.rmtree(queue)
    return bool(senders.statuses["A700"]) and not missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full-disk", type=Path, metavar="DIR", help="a small file system, such as a tmpfs of 64 MB")
    arguments = parser.parse_args()
    if not shutil.which("storescp"):
        raise SystemExit("expected storescp of dcmtk: install the packages in requirements/debian.txt")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = soak(folder, arguments.images, arguments.kills, arguments.seed)
        throughput(folder, min(arguments.images, 500))
        if arguments.full_disk:
            good = full_disk(folder, arguments.full_disk) and good
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
