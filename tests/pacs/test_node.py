"""A node beside real peers: pynetdicom and dcmtk send and receive, Orthanc is in another file."""

import dataclasses
import gc
import io
import shutil
import socket
import subprocess
import threading
import time

import pydicom
import pynetdicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, dicom_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import ComputedRadiographyImageStorage, StorageCommitmentPushModel, Verification

from pneumoscope import read_radiograph
from pneumoscope.pacs.destinations import PUSH_MODEL_INSTANCE, RESULT_CLASSES, DicomDestination
from pneumoscope.pacs.node import Node
from pneumoscope.pacs.queue import DEAD, DELIVERED, JUDGED, RECEIVED
from pneumoscope.pacs.receiver import Limits, Peer
from pneumoscope.pacs.tls import read_tls
from pneumoscope.radiographs.dicom.frames import TRANSFER_SYNTAXES

# pynetdicom leaves the socket of an association that cannot be opened to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")


class Archive:
    """An application entity that keeps results; it can refuse them, and it can be away."""

    def __init__(self):
        self.received, self.status, self.port = [], 0x0000, 0
        self.seconds = 0.0  # that it takes for each result
        self.commits, self.node_port = [], 0  # whether it commits itself, answer by answer; where its answers go
        self._server = None

    def start(self, tls=None):
        entity = self.entity = AE("ARCHIVE")
        for storage_class in RESULT_CLASSES:
            entity.add_supported_context(storage_class)
        entity.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._promise)]
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, ssl_context=tls, evt_handlers=handlers
        )
        self.port = self._server.socket.getsockname()[1]

    def stop(self):
        if self._server:
            self._server.ae.shutdown()
            self._server = None

    def _store(self, event):
        time.sleep(self.seconds)
        if self.status == 0x0000:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.received.append(dataset)
        return self.status

    def _promise(self, event):
        threading.Thread(target=self._report, args=(event.action_information,)).start()
        return 0x0000, None

    def _report(self, asked):
        """Answer a request for storage commitment, over an association of its own."""
        is_kept = self.commits.pop(0)
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        for item in asked.ReferencedSOPSequence if not is_kept else ():
            item.FailureReason = 0x0112
        keyword = "ReferencedSOPSequence" if is_kept else "FailedSOPSequence"
        setattr(report, keyword, asked.ReferencedSOPSequence)
        entity = AE("ARCHIVE")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", self.node_port, ae_title="PNEUMOSCOPE", ext_neg=[role])
        if not association.is_established:
            return  # the node cannot be reached
        association.send_n_event_report(report, 1 if is_kept else 2, StorageCommitmentPushModel, PUSH_MODEL_INSTANCE)
        association.release()

    def uids(self):
        return [str(dataset.SOPInstanceUID) for dataset in self.received]


@pytest.fixture
def archive():
    archive = Archive()
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture
def nodes():
    """The nodes that run."""
    nodes = []
    yield nodes
    for node in nodes:
        node.stop()
    gc.collect()


@pytest.fixture
def stop_node(nodes):
    def stop(node):
        nodes.remove(node)
        node.stop()

    return stop


@pytest.fixture
def start_node(predictor, archive, tmp_path, nodes):
    """Starts a node that answers to the archive; returns it, with its port."""

    def start(**options):
        destination = DicomDestination("ARCHIVE", "127.0.0.1", archive.port, "PNEUMOSCOPE", timeout=10)
        node = Node(predictor, tmp_path / "queue", destination, workers=1, **options)
        node.sender._pauses = 0.05, 0.2
        node.port = node.start("127.0.0.1", 0)
        nodes.append(node)
        return node

    return start


def _associate(node, aet="MODALITY", called="PNEUMOSCOPE", syntaxes=TRANSFER_SYNTAXES):
    entity = AE(aet)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    entity.add_requested_context(Verification)
    for syntax in syntaxes:
        entity.add_requested_context(ComputedRadiographyImageStorage, syntax)
    return entity.associate("127.0.0.1", node.port, ae_title=called)


def _send(node, *files):
    association = _associate(node)
    assert association.is_established
    codes = [association.send_c_store(pydicom.dcmread(io.BytesIO(data))).Status for data in files]
    association.release()
    return codes


def _wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def _wait_for_delivery(node, number):
    _wait_for(lambda: node.queue.counts()[DELIVERED] == number)


@pytest.fixture(scope="module")
def small(samples):
    """Makes small radiographs, each another instance."""
    pixels = read_radiograph(samples[9]).pixels[::4, ::4].copy()

    def make(**elements):
        return dicom_file(pixels, **{**ELEMENTS_OF_STUDY, **elements})

    return make


def test_an_image_is_answered_with_a_report_and_a_capture_in_its_study(start_node, archive, radiograph):
    node = start_node()
    assert _send(node, radiograph) == [0x0000]
    _wait_for_delivery(node, 1)
    assert sorted(result.Modality for result in archive.received) == ["OT", "SR"]
    assert {result.StudyInstanceUID for result in archive.received} == {ELEMENTS_OF_STUDY["StudyInstanceUID"]}
    _wait_for(lambda: not [*node.queue.folder.glob("*/*.dcm")])


def test_an_image_that_comes_again_is_accepted_and_not_answered_again(start_node, archive, radiograph):
    node = start_node()
    for _ in range(3):
        assert _send(node, radiograph, radiograph) == [0x0000, 0x0000]
        _wait_for_delivery(node, 1)
    assert len(archive.received) == len(set(archive.uids())) == 2
    assert (node.receiver.counters.accepted, node.receiver.counters.repeated) == (1, 5)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless,
     JPEG2000Lossless],
    ids=lambda syntax: syntax.name,
)  # fmt: skip
def test_every_transfer_syntax_that_is_read_is_received(start_node, archive, small, syntax):
    node = start_node(kinds=("SR",))
    if syntax.is_encapsulated:
        dataset = pydicom.dcmread(io.BytesIO(small()))
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset = pydicom.dcmread(io.BytesIO(small(syntax=syntax)))
    association = _associate(node, syntaxes=[syntax])
    assert association.send_c_store(dataset).Status == 0x0000
    association.release()
    _wait_for_delivery(node, 1)
    assert "Succeeded" in archive.received[0].to_json()


def test_an_image_that_is_not_judged_is_answered_with_the_reason(start_node, archive, small):
    node = start_node()
    assert _send(node, small(ViewPosition="LL")) == [0x0000]
    _wait_for_delivery(node, 1)
    (report,) = archive.received
    assert "expected a frontal view" in report.to_json()


def test_an_archive_that_is_away_gets_every_answer_when_it_is_back(start_node, archive, small):
    node = start_node(kinds=("SR",))
    archive.stop()
    assert _send(node, *(small() for _ in range(5))) == [0x0000] * 5
    _wait_for(lambda: node.queue.counts()[JUDGED] == 5 and node.sender.problem)
    assert archive.received == []
    archive.start()
    _wait_for_delivery(node, 5)
    assert len(archive.received) == len(set(archive.uids())) == 5
    _wait_for(lambda: node.sender.problem == "")


def test_an_archive_that_aborts_when_a_request_begins_does_not_stop_the_node(start_node, archive, small, monkeypatch):
    """The moment between pynetdicom's check that the association is there, and its wait for it to pause."""
    encode, aborted = pynetdicom.association.encode, []

    def encode_after_an_abort(*arguments):
        if not aborted and threading.current_thread().name == "sender":
            aborted.append(True)
            ends = [each for each in archive.entity.active_associations]
            for each in ends:
                each.abort()
            _wait_for(lambda: not any(thread.name.startswith("RequestorThread") for thread in threading.enumerate()))
        return encode(*arguments)

    monkeypatch.setattr(pynetdicom.association, "encode", encode_after_an_abort)
    node = start_node(kinds=("SR",))
    node.sender._destination = dataclasses.replace(node.sender._destination, timeout=1)
    dataset = pydicom.dcmread(io.BytesIO(small()))
    node.queue.accept(small(), str(dataset.SOPInstanceUID), "MODALITY")
    _wait_for_delivery(node, 1)
    assert aborted
    assert len(archive.received) == 1


def test_a_slow_archive_holds_up_nobody_who_sends(start_node, archive, small):
    node = start_node(kinds=("SR",))
    archive.seconds = 0.7
    begin = time.monotonic()
    assert _send(node, *(small() for _ in range(4))) == [0x0000] * 4
    assert time.monotonic() - begin < 4 * archive.seconds
    _wait_for_delivery(node, 4)
    assert len(archive.received) == len(set(archive.uids())) == 4


def test_a_clock_that_is_set_back_changes_nothing(start_node, archive, small, monkeypatch):
    node = start_node(kinds=("SR",))
    first, second = small(), small()
    assert _send(node, first) == [0x0000]
    _wait_for_delivery(node, 1)
    _wait_for(lambda: not archive.entity.active_associations)  # pynetdicom's own timers follow the clock
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 7200)
    archive.stop()
    assert _send(node, second, first) == [0x0000] * 2
    _wait_for(lambda: node.sender.problem)
    archive.start()
    _wait_for_delivery(node, 2)
    assert len(archive.received) == 2


def test_an_archive_without_room_is_asked_again(start_node, archive, small):
    node = start_node(kinds=("SR",))
    archive.status = 0xA700
    _send(node, small())
    _wait_for(lambda: "out of resources" in node.sender.problem)
    archive.status = 0x0000
    _wait_for_delivery(node, 1)
    assert len(archive.received) == 1


def test_an_archive_that_has_the_result_already_counts_as_delivered(start_node, archive, small):
    node = start_node(kinds=("SR",))
    archive.status = 0x0111
    _send(node, small())
    _wait_for_delivery(node, 1)


def test_an_answer_that_is_refused_is_dead_with_the_reason_and_the_others_go_on(start_node, archive, small):
    node = start_node(kinds=("SR",))
    archive.status = 0xC123
    _send(node, small())
    _wait_for(lambda: node.queue.counts()[DEAD] == 1)
    assert node.queue.images(DEAD)[0].reason == "the destination of results: it answers with status C123H"
    archive.status = 0x0000
    _send(node, small())
    _wait_for_delivery(node, 1)
    assert node.queue.retry() == 1
    _wait_for_delivery(node, 2)
    assert len(archive.received) == 2


def test_results_that_the_archive_does_not_keep_are_sent_again(start_node, archive, small):
    archive.commits = [False, True]
    node = start_node(kinds=("SR",), commitment=True)
    archive.node_port = node.port
    assert _send(node, small()) == [0x0000]
    _wait_for_delivery(node, 1)
    assert len(archive.received) == 2
    assert len(set(archive.uids())) == 1
    assert archive.commits == []


def test_results_are_not_deleted_before_the_archive_has_answered(start_node, archive, small):
    node = start_node(kinds=("SR",), commitment=True)
    archive.commits, archive.node_port = [True], 1  # its answer goes nowhere
    _send(node, small())
    _wait_for(lambda: archive.received)
    time.sleep(0.5)
    assert node.queue.counts()[JUDGED] == 1
    assert len([*node.queue.folder.glob("*/*.dcm")]) == 2


def test_a_node_that_is_stopped_goes_on_where_it_was(start_node, stop_node, archive, small):
    node = start_node(kinds=("SR",))
    archive.stop()
    _send(node, *(small() for _ in range(4)))
    stop_node(node)
    waiting = start_node(kinds=("SR",))
    archive.start()
    _wait_for_delivery(waiting, 4)
    assert len(archive.received) == len(set(archive.uids())) == 4


@pytest.mark.parametrize(
    ("options", "aet", "called", "is_accepted"),
    [
        ({}, "ANYBODY", "PNEUMOSCOPE", True),
        ({}, "ANYBODY", "OTHER", False),
        ({"peers": [Peer("MODALITY")]}, "MODALITY", "PNEUMOSCOPE", True),
        ({"peers": [Peer("MODALITY")]}, "ANYBODY", "PNEUMOSCOPE", False),
        ({"peers": [Peer("MODALITY", "127.0.0.1")]}, "MODALITY", "PNEUMOSCOPE", True),
        ({"peers": [Peer("MODALITY", "192.0.2.1")]}, "MODALITY", "PNEUMOSCOPE", False),
    ],
)
def test_only_those_on_the_list_may_send(start_node, options, aet, called, is_accepted, caplog):
    node = start_node(**options)
    association = _associate(node, aet, called)
    assert association.is_established == is_accepted
    _wait_for(lambda: node.receiver.counters.rejected_associations == (not is_accepted))
    assert caplog.text.count(f"an association of '{aet}' was rejected: ") == (not is_accepted)
    if is_accepted:
        assert association.send_c_echo().Status == 0x0000
        association.release()


def test_rejections_are_counted_and_said_once_a_minute_for_each_title(start_node, caplog):
    node = start_node()
    for aet in ("FIRST", "FIRST", "SECOND", "FIRST"):
        assert not _associate(node, aet, "OTHER").is_established
    _wait_for(lambda: node.receiver.counters.rejected_associations == 4)
    assert caplog.messages == [
        f"an association of '{aet}' was rejected: it called 'OTHER', not 'PNEUMOSCOPE'" for aet in ("FIRST", "SECOND")
    ]


def test_a_peer_with_too_many_associations_is_told_to_wait(start_node):
    node = start_node(limits=Limits(associations_per_minute=3))
    established = []
    for _ in range(5):
        association = _associate(node)
        established.append(association.is_established)
        if association.is_established:
            association.release()
    assert established == [True] * 3 + [False] * 2
    assert _associate(node, "OTHER").is_established


def test_more_associations_at_once_than_allowed_are_rejected(start_node):
    node = start_node(limits=Limits(associations=2))
    associations = [_associate(node) for _ in range(3)]
    assert [association.is_established for association in associations] == [True, True, False]
    assert node.receiver.counters.rejected_associations == 1
    for association in associations[:2]:
        association.release()


@pytest.mark.parametrize("noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\x00\x00\xff\xff\xff\xff", b"\xff" * 300])
def test_connections_that_are_no_associations_keep_nobody_out(start_node, noise):
    node = start_node(limits=Limits(associations=4))
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            connection.sendall(noise)
    _wait_for(lambda: _associate(node).is_established, seconds=5)


def test_an_image_without_uids_is_refused(start_node, small, caplog):
    node = start_node()
    bad = small(StudyInstanceUID="")
    assert not _associate(node, called="OTHER").is_established
    assert _send(node, bad, bad, small()) == [0xA900, 0xA900, 0x0000]
    assert [message for message in caplog.messages if "refused" in message] == [
        "an image of 'MODALITY' was refused: its UIDs are missing, or not those of the request (status A900H)"
    ]
    assert node.queue.counts()[DEAD] == 0


def test_a_request_without_a_data_set_ends_the_association_at_once(start_node, small):
    """pynetdicom ignores such a request, so that the peer would wait."""
    node = start_node()
    association = _associate(node)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = ComputedRadiographyImageStorage, "1.2.3"
    context = next(each for each in association.accepted_contexts if each.abstract_syntax != Verification)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context.context_id)
    begin = time.monotonic()
    assert association.dimse.get_msg(block=True) == (None, None)
    association._reactor_checkpoint.set()
    assert time.monotonic() - begin < 5
    assert _send(node, small()) == [0x0000]


def test_an_image_over_the_quota_is_refused_until_there_is_room(start_node, archive, small):
    first, second = small(), small()
    node = start_node(kinds=("SR",), quota=len(first) + 2000)
    archive.stop()
    assert _send(node, first, second) == [0x0000, 0xA700]
    archive.start()
    _wait_for_delivery(node, 1)
    assert _send(node, second) == [0x0000]
    _wait_for_delivery(node, 2)


def test_an_association_that_is_aborted_in_the_middle_leaves_nothing(start_node, small):
    """Bytes of a C-STORE up to a cut, as a modality that loses its network sends them."""
    node = start_node()
    sent = []
    recorder = socket.create_server(("127.0.0.1", 0))

    def forward():  # between the modality and the node
        client, _ = recorder.accept()
        server = socket.create_connection(("127.0.0.1", node.port))
        server.settimeout(0.2)
        client.settimeout(0.2)
        while len(b"".join(sent)) < 20_000:
            for source, target in ((client, server), (server, client)):
                try:
                    data = source.recv(4096)
                except TimeoutError:
                    continue
                if source is client:
                    sent.append(data)
                target.sendall(data)
        client.close()
        server.close()

    thread = threading.Thread(target=forward)
    thread.start()
    entity = AE("MODALITY")
    entity.dimse_timeout = entity.network_timeout = 5
    entity.add_requested_context(ComputedRadiographyImageStorage, TRANSFER_SYNTAXES[1])
    association = entity.associate("127.0.0.1", recorder.getsockname()[1], ae_title="PNEUMOSCOPE")
    status = association.send_c_store(pydicom.dcmread(io.BytesIO(small())))
    assert "Status" not in status
    thread.join()
    recorder.close()
    assert sum(node.queue.counts().values()) == 0
    assert _send(node, small()) == [0x0000]


def test_dcmtk_sends_echoes_and_images(start_node, archive, tool, small, tmp_path):
    if not shutil.which("storescu"):
        pytest.skip("storescu is not installed: requirements/debian.txt names its package")
    node = start_node()
    address = ["-aec", "PNEUMOSCOPE", "127.0.0.1", str(node.port)]
    tool("echoscu", *address)
    (tmp_path / "a.dcm").write_bytes(small())
    tool("storescu", *address, tmp_path / "a.dcm")
    _wait_for_delivery(node, 1)
    assert len(archive.received) == 2


def test_dcmtk_takes_the_results(predictor, tool, small, tmp_path):
    if not shutil.which("storescp"):
        pytest.skip("storescp is not installed: requirements/debian.txt names its package")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "archive").mkdir()
    command = ["storescp", "-aet", "ARCHIVE", "-od", tmp_path / "archive", "+xa", str(port)]
    archive = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    node = Node(predictor, tmp_path / "queue", DicomDestination("ARCHIVE", "127.0.0.1", port, "PNEUMOSCOPE"), workers=1,
                kinds=("SR", "SC", "PR"))  # fmt: skip
    node.sender._pauses = 0.05, 0.2
    try:
        node.port = node.start("127.0.0.1", 0)
        assert _send(node, small()) == [0x0000]
        _wait_for_delivery(node, 1)
    finally:
        node.stop()
        archive.kill()
        archive.wait()
    files = sorted((tmp_path / "archive").iterdir())
    assert len(files) == 3
    for file in files:
        assert not [line for line in tool("dciodvfy", file, check=False).splitlines() if line.startswith("Error")]


@pytest.fixture
def certificates(tmp_path):
    """Keys and certificates of an authority, of two peers that it signed, and of one that it did not sign."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")

    def run(*arguments):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    new = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    for name in ("ca", "stranger"):
        run("req", "-x509", *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for name in ("node", "peer"):
        run("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-out", f"{name}.pem", "-extfile", "names")  # fmt: skip

    def contexts(name):
        return read_tls(tmp_path / f"{name}.pem", tmp_path / f"{name}.key", tmp_path / "ca.pem")

    return contexts


def test_both_directions_are_encrypted_and_strangers_are_not_heard(predictor, nodes, certificates, small, tmp_path):
    archive = Archive()
    archive.start(certificates("peer")[0])
    listening, sending = certificates("node")
    destination = DicomDestination("ARCHIVE", "127.0.0.1", archive.port, "PNEUMOSCOPE", sending, timeout=10)
    node = Node(predictor, tmp_path / "queue", destination, workers=1, kinds=("SR",))
    node.port = node.start("127.0.0.1", 0, listening)
    nodes.append(node)
    entity = AE("MODALITY")
    entity.acse_timeout = entity.network_timeout = 5
    entity.add_requested_context(ComputedRadiographyImageStorage, TRANSFER_SYNTAXES[1])
    for tls in (None, certificates("stranger")[1]):
        arguments = (tls, "127.0.0.1") if tls else None
        assert not entity.associate("127.0.0.1", node.port, ae_title="PNEUMOSCOPE", tls_args=arguments).is_established
    association = entity.associate(
        "127.0.0.1", node.port, ae_title="PNEUMOSCOPE", tls_args=(certificates("peer")[1], "127.0.0.1")
    )
    assert association.send_c_store(pydicom.dcmread(io.BytesIO(small()))).Status == 0x0000
    association.release()
    _wait_for_delivery(node, 1)
    archive.stop()
    assert len(archive.received) == 1


def test_nothing_that_waits_is_shown_to_a_peer(start_node, archive, small):
    """A node stores; it answers no query and gives nothing back."""
    node = start_node()
    entity = AE("MODALITY")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")  # Study Root Query/Retrieve, FIND
    association = entity.associate("127.0.0.1", node.port, ae_title="PNEUMOSCOPE")
    assert not association.is_established
    assert node.queue.counts()[RECEIVED] == 0
