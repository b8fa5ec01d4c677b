"""Ray with two real nodes: although workers and drivers are killed, the folder is the one that one machine writes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import psutil
import pyarrow
import pyarrow.parquet
import pytest
from builders.file_server import serving_files

from pneumoscope import load
from pneumoscope.cli import app
from pneumoscope.cluster import connection
from pneumoscope.cluster.cluster_run import ClusterRun
from pneumoscope.errors import MissingExtra, RunError, UsageError
from pneumoscope.inference.bundle import shipped_models
from pneumoscope.io import encode_name
from pneumoscope.output import parquet_files
from pneumoscope.output.parquet_files import MANIFEST, ParquetParts
from pneumoscope.radiographs.sources import expand

ROWS = 4  # of a part: small, so that a few images are many parts
PROGRAM = f"""
from pneumoscope import cli
from pneumoscope.output import parquet_files
parquet_files.PART_ROWS = {ROWS}
cli.main()
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parquet_files, "PART_ROWS", ROWS)


@pytest.fixture(scope="module")
def predictor():
    return load()


NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}  # as small as Ray allows


@pytest.fixture(scope="module")
def nodes():
    """A Ray cluster of two nodes with a core each."""
    connection._set_environment(start_here=True)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def two_nodes(nodes):
    """The address of the cluster."""
    return nodes.address


@pytest.fixture(scope="module")
def server(samples_folder):
    """The address at which the bundled radiographs are served."""
    with serving_files(samples_folder) as address:
        yield address


@pytest.fixture(scope="module")
def images(samples, server, tmp_path_factory):
    """A list of 120 radiographs of a folder, with damaged and missing ones and addresses among them."""
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
    """The parts that the local engine writes for the same sources."""
    folder = tmp_path_factory.mktemp("local") / "parts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_files, "PART_ROWS", ROWS)
        file = ParquetParts(folder, predictor, False)
        for prediction in predictor.predict_many(sources):
            file.write(prediction)
        file.close()
    return _parts(folder)


def _parts(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def _command(*words):
    return [sys.executable, "-W", "error", "-c", PROGRAM, "predict", *map(str, words)]


def _rows(folder):
    return [row for path in sorted(folder.glob("part-*")) for row in pyarrow.parquet.read_table(path).to_pylist()]


def test_every_image_is_judged_once_although_a_worker_is_killed(predictor, sources, expected, two_nodes, tmp_path):
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
        encode_name(getattr(source, "path", str(source))) for source in sources
    ]
    assert _parts(tmp_path / "out") == expected
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["finished"] is True
    assert (manifest["sources"], manifest["parts"], manifest["part_rows"]) == (len(sources), len(expected), ROWS)
    assert sum(manifest["statuses"].values()) == len(sources)
    assert manifest["statuses"]["error"] == 5


def test_a_run_continues_after_its_driver_was_killed_and_keeps_complete_parts(images, expected, two_nodes, tmp_path):
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
    assert f"{len(before) - 1} of {len(expected)} parts are already done" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    judged = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
    assert sorted(judged) == sorted(expected.keys() - before.keys() | {damaged})
    assert _parts(out) == expected
    after = {name: (out / name).stat().st_mtime_ns for name in before}
    assert {name for name in before if before[name] != after[name]} == {damaged}


def test_relative_names_are_judged_where_the_command_was_given_although_a_node_dies(images, nodes, tmp_path):
    """The nodes were started in another folder; one of three is killed after the first part."""
    third = nodes.add_node(**NODE)
    local, out = tmp_path / "local", tmp_path / "out"
    where = {"cwd": images.parent, "text": True}
    subprocess.run(_command("list.csv", "--parquet", local), check=False, stdout=subprocess.DEVNULL, **where)
    command = _command("list.csv", "--engine", "ray", "--parquet", out, "--address", nodes.address)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where) as driver:
        assert driver.stdout.readline().startswith("part-0")
        nodes.remove_node(third, allow_graceful=False)
        _, errors = driver.communicate()
    assert (driver.returncode, errors) == (1, "")  # some images are errors
    assert any(row["path"] == "000.jpeg" for row in _rows(out))
    assert _parts(out) == _parts(local)


def test_a_worker_without_the_folder_says_so(predictor):
    from pneumoscope.cluster.cluster_run import Worker

    model = predictor.bundle.path.read_bytes()
    with pytest.raises(RunError, match=r"expected the folder /no/such of the relative names on every machine, .* says"):
        Worker(model, "m.onnx", 0.5, None, False, "/no/such")


def test_a_ray_that_does_not_start_is_one_sentence_and_the_same_command_works_afterwards(samples, tmp_path):
    """Ray refuses a temporary folder whose name is too long for its sockets."""
    command = _command(samples[0], "--engine", "ray", "--parquet", tmp_path / "out")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    broken = {**environment, "RAY_TMPDIR": str(tmp_path / ("long" * 40))}
    failed = subprocess.run(command, capture_output=True, text=True, env=broken)
    assert failed.returncode == 2
    assert failed.stderr.startswith("pneumoscope: expected a Ray cluster at this machine, Ray says ")
    assert failed.stderr.count("\n") == 1
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(_rows(tmp_path / "out")) == 1


def test_a_run_that_ended_before_its_first_part_is_begun_again(finished, predictor):
    folder, copies = finished
    ClusterRun(predictor, copies[:1], folder).__exit__()
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | {"finished": True}))
    with pytest.raises(UsageError, match="expected a folder without results"):
        ClusterRun(predictor, copies, folder)


def test_ray_on_this_machine_listens_on_loopback_and_ctrl_c_leaves_complete_parts(images, samples, predictor, tmp_path):
    out, longer = tmp_path / "out", images.with_name("longer.csv")  # the run must not end before Ctrl-C
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
            with contextlib.suppress(psutil.NoSuchProcess):  # some of them end within a moment
                connections = process.net_connections()
                listening |= {socket.laddr.ip for socket in connections if socket.status == psutil.CONN_LISTEN}
        driver.send_signal(signal.SIGINT)
        errors = driver.stderr.read()
        assert driver.wait() == 130
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}
    assert errors == "pneumoscope: interrupted; what was written so far is kept\n"
    assert psutil.wait_procs(processes[1:], timeout=20)[1] == []
    parts, sources = _parts(out), list(expand([str(longer)]))
    assert parts
    for name, content in parts.items():
        first = ROWS * int(name.removeprefix("part-").removesuffix(".parquet"))
        judged = predictor.predict_many(sources[first : first + ROWS])
        assert content == parquet_files.parquet_part([prediction.to_dict() for prediction in judged])


@pytest.fixture
def finished(predictor, samples, expected, tmp_path):
    """A folder as a run leaves it, and the two images that were judged."""
    copies = [shutil.copy(path, tmp_path / path.name) for path in samples[:2]]
    with ClusterRun(predictor, copies, tmp_path / "out") as run:
        run._write_manifest(finished=False)
    return tmp_path / "out", copies


def test_a_changed_image_or_list_is_refused(finished, predictor):
    folder, copies = finished
    ClusterRun(predictor, copies, folder, resume=True).__exit__()
    with pytest.raises(
        UsageError, match=r"expected the number of images of the earlier run in .*, 2, received 1: give the same"
    ):
        ClusterRun(predictor, copies[:1], folder, resume=True)
    with pytest.raises(UsageError, match=r"expected the list of images, each of the same size and date, of the"):
        ClusterRun(predictor, copies[::-1], folder, resume=True)
    os.utime(copies[0], (1, 1))
    with pytest.raises(UsageError, match=r"expected the list of images, .*: give the same again, or name another"):
        ClusterRun(predictor, copies, folder, resume=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"threshold": 0.4}, "the threshold of the earlier run"),
        ({"prevalence": 0.1}, "the threshold of the earlier run"),
        ({"model": "reference-mobilenet"}, "the model of the earlier run .*, mobilenet, received reference-mobilenet"),
    ],
)
def test_another_model_or_point_is_refused(finished, options, what):
    folder, copies = finished
    with pytest.raises(UsageError, match=f"expected {what}"):
        ClusterRun(load(**options), copies, folder, resume=True)


def test_a_folder_is_resumed_only_if_asked_for_and_only_by_its_own_engine(finished, predictor, samples, tmp_path):
    folder, copies = finished
    (folder / parquet_files.part_name(0)).write_bytes(b"")
    with pytest.raises(UsageError, match=r"expected a folder without results .*: resume from them with --resume"):
        ClusterRun(predictor, copies, folder)
    (folder / parquet_files.part_name(0)).unlink()
    with pytest.raises(UsageError, match=r"--engine ray wrote its manifest\.json"):
        ParquetParts(folder, predictor, True)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(UsageError, match=r"expected a manifest that pneumoscope wrote"):
        ClusterRun(predictor, copies, folder, resume=True)
    file = ParquetParts(tmp_path / "local", predictor, False)
    with pytest.raises(UsageError, match="another pneumoscope process is writing to it"):
        ClusterRun(predictor, copies, tmp_path / "local")
    file.write(predictor.predict(samples[0]))
    file.close()
    with pytest.raises(UsageError, match=r"expected the manifest\.json of --engine ray"):
        ClusterRun(predictor, copies, tmp_path / "local", resume=True)


def test_an_address_without_a_cluster_gives_one_sentence(images, tmp_path):
    command = _command(images, "--engine", "ray", "--parquet", tmp_path / "out", "--address", "127.0.0.1:1")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("pneumoscope: expected a Ray cluster at 127.0.0.1:1, the system says ")
    assert done.stderr.count("\n") == 1


def test_without_ray_the_error_is_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"--engine ray needs the package 'ray'.*pip install 'pneumoscope\[ray\]'"):
        connection.require_ray()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--engine", "spark"], "expected --engine local or ray, received spark"),
        (["--engine", "ray"], "expected --parquet DIR with --engine ray"),
        (["--engine", "ray", "--parquet", "d", "--csv", "c", "--json"], "expected --engine local for --json, --csv"),
        (["--engine", "ray", "--parquet", "d", "--heatmaps", "h", "--html", "i"], "local for --heatmaps, --html"),
        (["--address", "auto"], "expected --engine ray for --address"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        app(["predict", "a.png", *options], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_part_consists_of_complete_test_parts(monkeypatch):
    monkeypatch.undo()
    assert parquet_files.PART_ROWS % ROWS == 0


@pytest.mark.parametrize("model", shipped_models())
def test_the_number_of_threads_changes_no_digit(model, samples):
    """Both engines need this to give the same digits: a worker has one thread, the local engine one for each core."""
    from pneumoscope.inference.bundle import ZOO, read_bundle
    from pneumoscope.inference.predict import Predictor

    data = (ZOO / f"{model}.onnx").read_bytes()
    results = []
    for threads in (0, 1, 2, 3, 8):
        predictor = Predictor(read_bundle(data, ZOO, threads))
        results.append([(one.probability, one.bacterial) for one in predictor.predict_many(samples)])
    assert all(each == results[0] for each in results)
