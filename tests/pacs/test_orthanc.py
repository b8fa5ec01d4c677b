"""The node as a command beside Orthanc, a PACS that others wrote: a study goes out, the results come back into it."""

import contextlib
import datetime
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pydicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, dicom_file

from pneumoscope import read_radiograph
from pneumoscope.pacs.queue import DELIVERED, Queue

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGINS = "/usr/share/orthanc/plugins"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = pytest.mark.skipif(
    not os.path.exists(ORTHANC), reason="Orthanc is not installed: requirements/debian.txt names its packages"
)


def _free_ports(number):
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


def _wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


def _answers_at(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


class Orthanc:
    """A server of its own, in a folder of its own."""

    def __init__(self, folder, node_port, **configuration):
        self.dicom_port, http_port = _free_ports(2)
        self.url = f"http://127.0.0.1:{http_port}"
        configuration = {
            "Name": "test", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "index"),
            "HttpPort": http_port, "DicomPort": self.dicom_port, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomCheckCalledAet": True, "DicomAlwaysAllowFind": True,
            "Plugins": [PLUGINS], "DicomWeb": {"Enable": True},
            "DicomModalities": {"node": ["PNEUMOSCOPE", "127.0.0.1", node_port]}, "StableAge": 1,
            **configuration,
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        with (folder / "orthanc.log").open("wb") as log:
            self._process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
        _wait_for(self._answers)

    def ask(self, path, data=None):
        """An answer of its REST interface."""
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=30) as answer:
            return json.load(answer)

    def instances(self):
        """The main tags of every instance, with study and modality."""
        return [self.ask(f"/instances/{identifier}/simplified-tags") for identifier in self.ask("/instances")]

    def stop(self):
        self._process.terminate()
        self._process.wait(30)

    def _answers(self):
        with contextlib.suppress(OSError):
            return self.ask("/system")
        return None


@pytest.fixture
def node_port():
    (port,) = _free_ports(1)
    return port


@pytest.fixture
def orthanc(tmp_path, node_port):
    orthanc = Orthanc(tmp_path, node_port)
    yield orthanc
    orthanc.stop()


@pytest.fixture
def orthanc_with_rule(tmp_path, node_port):
    """Orthanc as the page about a PACS sets it up: the name of the node, and the rule."""
    page = (Path(__file__).parents[2] / "docs" / "pacs.md").read_text(encoding="utf-8")
    (tmp_path / "rule.lua").write_text(re.search(r"```lua\n(.*?)```", page, re.DOTALL)[1])
    modalities = json.loads(re.search(r'\{"DicomModalities".*\}', page)[0])["DicomModalities"]
    modalities["pneumoscope"][1:] = "127.0.0.1", node_port
    orthanc = Orthanc(tmp_path, node_port, DicomModalities=modalities, LuaScripts=[str(tmp_path / "rule.lua")])
    yield orthanc
    orthanc.stop()


@pytest.fixture
def start_node(tmp_path, node_port):
    """Starts the command and waits until it listens."""
    processes = []

    def start(*options):
        command = [sys.executable, "-m", "pneumoscope", "node", "--port", str(node_port), "--queue", "queue", *options]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        line = process.stderr.readline()
        assert "listens on" in line, line
        return process

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGKILL)
        process.stderr.close()


@pytest.fixture
def behind_nginx(tmp_path):
    """Starts nginx in front of a server; it does not give one instance. Returns the address of its DICOMweb service."""
    if not NGINX:
        pytest.skip("nginx is not installed: requirements/debian.txt names it")
    processes = []

    def start(url, refused):
        (port,) = _free_ports(1)
        (tmp_path / "nginx.conf").write_text(f"""
            pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.log; daemon off; events {{}}
            http {{ access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
              fastcgi_temp_path {tmp_path}/fcgi; uwsgi_temp_path {tmp_path}/uwsgi; scgi_temp_path {tmp_path}/scgi;
              server {{ listen 127.0.0.1:{port};
                location ~ /instances/{re.escape(refused)}$ {{ return 404; }}
                location / {{ proxy_pass {url}; proxy_buffering off; proxy_set_header Host $http_host; }} }} }}
        """)
        processes.append(subprocess.Popen([NGINX, "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL))
        _wait_for(lambda: _answers_at(port))
        return f"http://127.0.0.1:{port}/dicom-web"

    yield start
    for process in processes:
        process.terminate()
        process.wait(30)


@pytest.fixture
def study(orthanc, samples):
    """Two radiographs of one study in the archive; returns their UIDs."""
    for number in (9, 0):
        data = dicom_file(read_radiograph(samples[number]).pixels[::3, ::3].copy(), **ELEMENTS_OF_STUDY)
        orthanc.ask("/instances", data)
    return orthanc.ask("/studies")[0]


@pytest.mark.parametrize("way", ["dimse", "web"])
def test_a_study_comes_back_with_reports_and_captures(orthanc, start_node, study, tool, way):
    if way == "web" and not os.path.exists(f"{PLUGINS}/libOrthancDicomWeb.so"):
        pytest.skip("orthanc-dicomweb is not installed: requirements/debian.txt names it")
    receiver = f"ORTHANC@127.0.0.1:{orthanc.dicom_port}" if way == "dimse" else f"{orthanc.url}/dicom-web"
    start_node("--reply-to", receiver, "--allow", "ORTHANC@127.0.0.1")
    sent = orthanc.ask("/modalities/node/store", study.encode())
    assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (2, 0)
    _wait_for(lambda: len(orthanc.ask("/instances")) == 6)
    assert len(orthanc.ask("/studies")) == len(orthanc.ask("/patients")) == 1
    found = orthanc.instances()
    assert sorted(tags["Modality"] for tags in found) == ["CR", "CR", "OT", "OT", "SR", "SR"]
    assert {tags["PatientID"] for tags in found} == {found[0]["PatientID"]}
    images = {tags["SOPInstanceUID"] for tags in found if tags["Modality"] == "CR"}
    evidence = {
        tags["CurrentRequestedProcedureEvidenceSequence"][0]["ReferencedSeriesSequence"][0]["ReferencedSOPSequence"][0][
            "ReferencedSOPInstanceUID"
        ]
        for tags in found
        if tags["Modality"] == "SR"
    }
    assert evidence == images
    series = {tags["SeriesInstanceUID"] for tags in found if tags["Modality"] == "SR"}
    assert len(series) == 1  # two reports, one series
    answers = tool(
        "findscu", "-S", "-aec", "ORTHANC", "127.0.0.1", orthanc.dicom_port, "-k", "QueryRetrieveLevel=SERIES",
        "-k", f"StudyInstanceUID={ELEMENTS_OF_STUDY['StudyInstanceUID']}", "-k", "Modality=SR",
        "-k", "SeriesInstanceUID", "-k", "SeriesDescription",
    )  # fmt: skip
    assert series.pop() in answers
    assert "pneumoscope findings, research use only" in answers

    # Once more, with the results in the study: reports are not accepted, and captures of the node's own not judged.
    orthanc.ask("/modalities/node/store", json.dumps({"Resources": [study], "Permissive": True}).encode())
    time.sleep(2)
    assert len(orthanc.ask("/instances")) == 6


def test_the_rule_of_the_page_sends_each_new_study_and_the_results_come_back(orthanc_with_rule, start_node, samples):
    orthanc = orthanc_with_rule
    start_node("--reply-to", f"ORTHANC@127.0.0.1:{orthanc.dicom_port}", "--result", "SR")
    pixels = read_radiograph(samples[9]).pixels[::4, ::4].copy()
    for modality in ("CR", "CR", "MR"):
        uids = {"SeriesInstanceUID": f"1.2.3.{modality == 'MR':d}"}
        orthanc.ask("/instances", dicom_file(pixels, **{**ELEMENTS_OF_STUDY, **uids, "Modality": modality}))
    _wait_for(lambda: sum(tags["Modality"] == "SR" for tags in orthanc.instances()) == 2)
    time.sleep(2)  # the rule runs again, because of the reports: what it sends is known
    assert sorted(tags["Modality"] for tags in orthanc.instances()) == ["CR", "CR", "MR", "SR", "SR"]


@pytest.mark.skipif(
    not os.path.exists(f"{PLUGINS}/libOrthancDicomWeb.so"), reason="requirements/debian.txt names orthanc-dicomweb"
)
@pytest.mark.parametrize("way", ["by date", "by list"])
def test_a_study_is_fetched_from_a_dicomweb_server_and_answered_there(orthanc, start_node, samples, way):
    pixels = read_radiograph(samples[9]).pixels[::4, ::4].copy()
    today = f"{datetime.date.today():%Y%m%d}"
    dates = {"today": today, "years ago": "20200131"}
    for number, date in enumerate(dates.values()):
        uids = {"StudyInstanceUID": f"1.2.3.{number}", "SeriesInstanceUID": f"1.2.3.{number}.1"}
        orthanc.ask("/instances", dicom_file(pixels, **{**ELEMENTS_OF_STUDY, **uids, "StudyDate": date}))
    wanted = "1.2.3.0" if way == "by date" else "1.2.3.1"
    options = [] if way == "by date" else ["--study", wanted]
    web = f"{orthanc.url}/dicom-web"
    start_node("--reply-to", web, "--poll", web, "--poll-seconds", "1", "--result", "SR", *options)
    _wait_for(lambda: len(orthanc.ask("/instances")) == 3)
    time.sleep(2.5)  # two more questions, whose answers are known
    reports = [tags["StudyInstanceUID"] for tags in orthanc.instances() if tags["Modality"] == "SR"]
    assert reports == [wanted]


@pytest.mark.skipif(
    not os.path.exists(f"{PLUGINS}/libOrthancDicomWeb.so"), reason="requirements/debian.txt names orthanc-dicomweb"
)
def test_an_image_that_the_web_server_does_not_give_holds_up_no_other(orthanc, start_node, samples, behind_nginx):
    """nginx in front of Orthanc lists three images, and gives two."""
    pixels = read_radiograph(samples[9]).pixels[::4, ::4].copy()
    uids = []
    for _ in range(3):
        data = dicom_file(pixels, **ELEMENTS_OF_STUDY)
        orthanc.ask("/instances", data)
        uids.append(str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID))
    listed = orthanc.ask(f"/dicom-web/instances?StudyInstanceUID={ELEMENTS_OF_STUDY['StudyInstanceUID']}")
    refused = listed[0]["00080018"]["Value"][0]  # the first that the node asks for
    web, study = behind_nginx(orthanc.url, refused), ELEMENTS_OF_STUDY["StudyInstanceUID"]
    archive = f"{orthanc.url}/dicom-web"
    start_node("--reply-to", archive, "--poll", web, "--poll-seconds", "1", "--result", "SR", "--study", study)
    _wait_for(lambda: len(orthanc.ask("/instances")) == 5)
    reports = [
        tags["CurrentRequestedProcedureEvidenceSequence"][0]["ReferencedSeriesSequence"][0]["ReferencedSOPSequence"][0]
        for tags in orthanc.instances()
        if "CurrentRequestedProcedureEvidenceSequence" in tags
    ]
    assert {report["ReferencedSOPInstanceUID"] for report in reports} == set(uids) - {refused}


def test_results_are_kept_until_the_archive_has_confirmed_them(orthanc, start_node, study, tmp_path):
    start_node("--reply-to", f"ORTHANC@127.0.0.1:{orthanc.dicom_port}", "--commitment")
    orthanc.ask("/modalities/node/store", study.encode())
    looking = _wait_for(lambda: (tmp_path / "queue" / "queue.sqlite").is_file() and Queue(
        tmp_path / "queue", "", exclusive=False))  # fmt: skip
    _wait_for(lambda: looking.counts()[DELIVERED] == 2)
    looking.close()
    assert "StorageCommitmentScp" in {job["Type"] for job in orthanc.ask("/jobs?expand")}
    assert len(orthanc.ask("/instances")) == 6


def test_a_node_that_is_killed_while_it_works_answers_everything_once(orthanc, start_node, samples, tmp_path):
    pixels = read_radiograph(samples[9]).pixels[::4, ::4].copy()
    for _ in range(12):
        orthanc.ask("/instances", dicom_file(pixels, **ELEMENTS_OF_STUDY))
    study = orthanc.ask("/studies")[0]
    options = ("--reply-to", f"ORTHANC@127.0.0.1:{orthanc.dicom_port}", "--result", "SR")
    process = start_node(*options)
    orthanc.ask("/modalities/node/store", study.encode())
    process.kill()
    process.wait()
    start_node(*options)
    _wait_for(lambda: len(orthanc.ask("/instances")) == 24)
    reports = [tags["SOPInstanceUID"] for tags in orthanc.instances() if tags["Modality"] == "SR"]
    assert len(reports) == len(set(reports)) == 12
    looking = Queue(tmp_path / "queue", "", exclusive=False)
    _wait_for(lambda: looking.counts()[DELIVERED] == 12)
    looking.close()
