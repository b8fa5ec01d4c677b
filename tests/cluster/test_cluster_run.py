"""Scale-out: on two real Ray nodes, with workers and drivers killed, the folder is the one that one machine writes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pyarrow
import pyarrow.parquet
import pytest

from pneumoscope import load
from pneumoscope.cli import app
from pneumoscope.cluster.cluster_run import ClusterRun
from pneumoscope.cluster.connection import connection as cluster
from pneumoscope.errors import MissingExtra, UnreadableImage, UsageError
from pneumoscope.inference.bundle import shipped_models
from pneumoscope.inference.predict import BATCH
from pneumoscope.output import results
from pneumoscope.output.results import MANIFEST, ParquetParts
from pneumoscope.radiographs.images import read_file
from pneumoscope.radiographs.remote import read_address
from pneumoscope.radiographs.sources import expand

ROWS = BATCH  # of a part: small, so that a few images are many parts
SMALL = f"from pneumoscope import cli; from pneumoscope.output import results; results.PART_ROWS = {ROWS}; cli.main()"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(results, "PART_ROWS", ROWS)


@pytest.fixture(scope="module")
def predictor():
    return load()


@pytest.fixture(scope="module")
def two_nodes():
    """The address of a Ray cluster of two nodes with a core each."""
    cluster._set_environment(alone=True)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    yield nodes.address
    nodes.shutdown()


@pytest.fixture(scope="module")
def server(samples_folder):
    """The address under which the bundled radiographs are served; below /endless a file has no end."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(samples_folder))

        def do_GET(self):
            if not self.path.startswith("/endless"):
                return super().do_GET()
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(2**16))
            except OSError:  # the reader has had enough
                pass

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def images(samples, server, tmp_path_factory):
    """A folder of 120 radiographs with what goes wrong among them, and a list of it with addresses."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(120):
        shutil.copy(samples[number % len(samples)], folder / f"{number:03d}.jpeg")
    (folder / "017.jpeg").write_bytes(samples[0].read_bytes()[:5000])
    (folder / "033.jpeg").write_bytes(b"")
    (folder / os.fsdecode(b"04\xff.jpeg")).write_bytes(samples[1].read_bytes())
    addresses = [f"{server}/{path.parent.name}/{path.name}" for path in samples[:5]]
    names = [*sorted(path.name for path in folder.iterdir()), "missing.png", f"{server}/missing.png", "", *addresses]
    lines = "\n".join(["path,remark", *(f"{name}," for name in names)])
    (folder / "list.csv").write_bytes(lines.encode("utf-8", "surrogateescape"))
    return folder / "list.csv"


@pytest.fixture(scope="module")
def sources(images):
    return list(expand([str(images)]))


@pytest.fixture(scope="module")
def expected(predictor, sources, tmp_path_factory):
    """The parts that the local engine writes of them."""
    folder = tmp_path_factory.mktemp("local") / "parts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "PART_ROWS", ROWS)
        file = ParquetParts(folder, predictor, False)
        for prediction in predictor.predict_many(sources):
            file.write(prediction)
        file.close()
    return _parts(folder)


def _parts(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def _command(*words):
    return [sys.executable, "-W", "error", "-c", SMALL, "predict", *map(str, words)]


def _rows(folder):
    return [row for path in sorted(folder.glob("part-*")) for row in pyarrow.parquet.read_table(path).to_pylist()]


def test_a_killed_worker_costs_nothing_and_every_image_is_judged_once(
    predictor, sources, expected, two_nodes, tmp_path
):
    with ClusterRun(predictor, sources, tmp_path / "out") as run:
        killed, written = None, []
        for part in run.score(two_nodes):
            written.append(part)
            if killed is None:
                killed = int(part.worker.rpartition(":")[2])
                os.kill(killed, signal.SIGKILL)
    assert sorted(part.number for part in written) == list(range(len(expected)))
    assert len({part.worker for part in written}) >= 2
    assert [row["path"] for row in _rows(tmp_path / "out")] == [
        results._valid(getattr(source, "path", str(source))) for source in sources
    ]
    assert _parts(tmp_path / "out") == expected
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["finished"] is True
    assert (manifest["sources"], manifest["parts"], manifest["part_rows"]) == (len(sources), len(expected), ROWS)
    assert sum(manifest["statuses"].values()) == len(sources)
    assert manifest["statuses"]["error"] == 5


def test_a_killed_driver_is_gone_on_with_and_whole_parts_stay(images, expected, two_nodes, tmp_path):
    out = tmp_path / "out"
    command = _command(images, "--engine", "ray", "--parquet", out, "--address", two_nodes)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        first = [driver.stdout.readline() for _ in range(2)]
        driver.kill()
    assert all(line.startswith("part-0") for line in first)
    assert json.loads((out / MANIFEST).read_text())["finished"] is False
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert 2 <= len(before) < len(expected)
    damaged = min(before)
    (out / damaged).write_bytes(expected[damaged][:-9])
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # some images are errors
    assert f"{len(before) - 1} of {len(expected)} parts are judged already" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    judged = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
    assert sorted(judged) == sorted(expected.keys() - before.keys() | {damaged})
    assert _parts(out) == expected
    after = {name: (out / name).stat().st_mtime_ns for name in before}
    assert {name for name in before if before[name] != after[name]} == {damaged}


def test_alone_ray_listens_on_loopback_and_ctrl_c_leaves_whole_parts(images, samples, predictor, tmp_path):
    out, longer = tmp_path / "out", images.with_name("longer.csv")  # it must not end before Ctrl-C
    longer.write_bytes(images.read_bytes() + b"".join(f"\n{path},".encode() for path in samples * 50))
    command = _command(longer, "--engine", "ray", "--parquet", out)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A job that a script started in the background ignores SIGINT, and so would this child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as driver:
        assert driver.stdout.readline().startswith("part-0")
        processes = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        listening = set()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # some of them live for a moment only
                found = process.net_connections()
                listening |= {socket.laddr.ip for socket in found if socket.status == psutil.CONN_LISTEN}
        driver.send_signal(signal.SIGINT)
        said = driver.stderr.read()
        assert driver.wait() == 130
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}
    assert said == "pneumoscope: interrupted; what was written so far is kept\n"
    assert psutil.wait_procs(processes[1:], timeout=20)[1] == []
    parts, sources = _parts(out), list(expand([str(longer)]))
    assert parts
    for name, content in parts.items():
        first = ROWS * int(name.removeprefix("part-").removesuffix(".parquet"))
        judged = predictor.predict_many(sources[first : first + ROWS])
        assert content == results.parquet_part([prediction.to_dict() for prediction in judged])


@pytest.fixture
def finished(predictor, samples, expected, tmp_path):
    """A folder as a run leaves it, of two copies, and those."""
    copies = [shutil.copy(path, tmp_path / path.name) for path in samples[:2]]
    with ClusterRun(predictor, copies, tmp_path / "out") as run:
        run._write_manifest(finished=False)
    return tmp_path / "out", copies


def test_a_changed_image_or_list_is_refused(finished, predictor):
    folder, copies = finished
    ClusterRun(predictor, copies, folder, resume=True).__exit__()
    with pytest.raises(
        UsageError, match=r"expected the number of images of before in .*, 2, received 1: give the same"
    ):
        ClusterRun(predictor, copies[:1], folder, resume=True)
    with pytest.raises(UsageError, match=r"expected the list of images, each of the same size and date, of before"):
        ClusterRun(predictor, copies[::-1], folder, resume=True)
    os.utime(copies[0], (1, 1))
    with pytest.raises(UsageError, match=r"expected the list of images, .*: give the same again, or name another"):
        ClusterRun(predictor, copies, folder, resume=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"threshold": 0.4}, "the threshold of before"),
        ({"prevalence": 0.1}, "the threshold of before"),
        ({"model": "reference-mobilenet"}, "the model of before in .*, mobilenet, received reference-mobilenet"),
    ],
)
def test_another_model_or_point_is_refused(finished, options, what):
    folder, copies = finished
    with pytest.raises(UsageError, match=f"expected {what}"):
        ClusterRun(load(**options), copies, folder, resume=True)


def test_a_folder_is_gone_on_with_only_when_asked_and_by_its_own_engine(finished, predictor, samples, tmp_path):
    folder, copies = finished
    with pytest.raises(UsageError, match=r"expected a folder without results .*: go on with them by --resume"):
        ClusterRun(predictor, copies, folder)
    with pytest.raises(UsageError, match=r"--engine ray wrote its manifest\.json"):
        ParquetParts(folder, predictor, True)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(UsageError, match=r"expected a manifest that pneumoscope wrote"):
        ClusterRun(predictor, copies, folder, resume=True)
    file = ParquetParts(tmp_path / "local", predictor, False)
    with pytest.raises(UsageError, match="another pneumoscope does"):
        ClusterRun(predictor, copies, tmp_path / "local")
    file.write(predictor.predict(samples[0]))
    file.close()
    with pytest.raises(UsageError, match=r"expected the manifest\.json of --engine ray"):
        ClusterRun(predictor, copies, tmp_path / "local", resume=True)


def test_no_cluster_at_an_address_is_one_sentence(images, tmp_path):
    command = _command(images, "--engine", "ray", "--parquet", tmp_path / "out", "--address", "127.0.0.1:1")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("pneumoscope: expected a Ray cluster at 127.0.0.1:1, the system says ")
    assert done.stderr.count("\n") == 1


def test_without_ray_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"--engine ray needs the package 'ray'.*pip install 'pneumoscope\[ray\]'"):
        cluster.require_ray()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--engine", "spark"], "expected --engine local or ray, received spark"),
        (["--engine", "ray"], "expected --parquet DIR beside --engine ray"),
        (["--engine", "ray", "--parquet", "d", "--csv", "c", "--json"], "expected --engine local for --json, --csv"),
        (["--engine", "ray", "--parquet", "d", "--heatmaps", "h", "--html", "i"], "local for --heatmaps, --html"),
        (["--address", "auto"], "expected --engine ray for --address"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        app(["predict", "a.png", *options], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_whole_batches(monkeypatch):
    monkeypatch.undo()
    assert results.PART_ROWS % BATCH == 0


@pytest.mark.parametrize("model", shipped_models())
def test_the_number_of_threads_changes_no_digit(model, samples):
    """What the identity of the engines rests on: a worker has one thread, the local engine one a core."""
    from pneumoscope.inference.bundle import ZOO, read_bundle
    from pneumoscope.inference.predict import Predictor

    data = (ZOO / f"{model}.onnx").read_bytes()
    found = []
    for threads in (0, 1, 2, 3, 8):
        predictor = Predictor(read_bundle(data, ZOO, threads))
        found.append([(one.probability, one.bacterial) for one in predictor.predict_many(samples)])
    assert all(one == found[0] for one in found)


def test_addresses_are_read_as_files_are(server, samples, predictor):
    address = f"{server}/NORMAL/{samples[0].name}"
    assert read_file(address) == samples[0].read_bytes()
    there, missing = predictor.predict_many([address, f"{server}/none.png"])
    here = predictor.predict_many([samples[0], samples[0].with_name("none.png")])
    assert there.path == address
    assert (there.probability, there.image_sha256) == next((one.probability, one.image_sha256) for one in here)
    assert (missing.status, missing.reason) == (
        "error",
        "expected an image file, found nothing at this address: check it",
    )


def test_more_than_the_limit_is_never_read(server):
    assert len(read_address(f"{server}/endless.png", 100_000)) == 100_000


def test_folders_and_patterns_at_addresses_are_listed(server, samples, samples_folder, tmp_path):
    normal = [path for path in samples if path.parent.name == "NORMAL"]
    assert list(expand([f"{server}/NORMAL/"])) == sorted(f"{server}/NORMAL/{path.name}" for path in normal)
    assert list(expand([f"file://{samples_folder}"])) == sorted(f"file://{path}" for path in samples)
    assert list(expand([f"file://{samples_folder}/NORMAL/*.jpeg"])) == sorted(f"file://{path}" for path in normal)
    for nothing in (f"file://{tmp_path}", f"file://{tmp_path}/*.png", "no-such-kind://a/"):
        (found,) = expand([nothing])
        assert isinstance(found, UnreadableImage)
        assert found.path == nothing


def test_lists_name_images_relative_to_themselves(server, tmp_path):
    names = ["a.png", "sub/b.png", "/c.png", f"{server}/d.png"]
    paths = [tmp_path / "a.png", tmp_path / "sub" / "b.png", tmp_path.__class__("/c.png"), f"{server}/d.png"]
    (tmp_path / "list.csv").write_text("label,path\n" + "".join(f"NORMAL,{name}\n" for name in names))
    pyarrow.parquet.write_table(pyarrow.table({"path": names, "label": [1] * 4}), tmp_path / "list.parquet")
    for kind in ("csv", "parquet"):
        assert list(expand([str(tmp_path / f"list.{kind}")])) == paths
        there = [f"file://{tmp_path}/{name}" for name in names[:2]]
        assert list(expand([f"file://{tmp_path}/list.{kind}"]))[:2] == there


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"file,label\n", "expected a column path in .*, received file, label: rename"),
        ("a.csv", b"", "received no column"),
        ("a.parquet", b"PAR1", "expected a Parquet file with text in its column path"),
        ("a.csv", None, "expected a list of images at .*: check the name"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        list(expand([str(tmp_path / name)]))


def test_without_fsspec_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r"reading s3:// needs the package 'fsspec'.*pneumoscope\[remote\]"):
        read_file("s3://bucket/a.png")
