"""Worker counts: affinity and the quota of control groups together."""

import os
import subprocess
import sys

import pytest

from pneumoscope.io import cores

V2, V1 = "0::/a/b\n", "4:cpu,cpuacct:/a/b\n3:memory:/a/b\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretends to be a process with this affinity and these files of control groups."""

    def pretend(allowed, membership, files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
        (tmp_path / "cgroup").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "cgroup")
        monkeypatch.setattr(cores, "_MOUNT", tmp_path / "fs")
        return cores.available_cores()

    return pretend


@pytest.mark.parametrize(
    ("allowed", "membership", "files", "expected"),
    [
        (64, V2, {}, 64),
        (64, "0::/\n", {"cpu.max": "100000 100000"}, 1),  # docker --cpus 1, in its own namespace
        (64, V2, {"a/b/cpu.max": "250000 100000"}, 3),  # a part of a core is worth a worker
        (64, V2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),  # the group above has it
        (64, V2, {"cpu.max": "400000 100000"}, 4),  # a path that does not exist in the container
        (2, V2, {"cpu.max": "400000 100000"}, 2),
        (64, V2, {"cpu.max": "1000 100000"}, 1),
        (64, V2, {"a/b/cpu.max": "odd"}, 64),
        (64, V1, {"cpu/a/b/cpu.cfs_quota_us": "150000", "cpu/a/b/cpu.cfs_period_us": "100000"}, 2),
        (64, V1, {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 3),
        (64, V1, {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}, 64),
    ],
)
def test_the_smaller_of_affinity_and_quota_counts(machine, allowed, membership, files, expected):
    assert machine(allowed, membership, files) == expected


def test_without_affinity_and_control_groups_all_cores_count(monkeypatch, tmp_path):
    def refuse(_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_getaffinity", refuse, raising=False)
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "none")
    assert cores.available_cores() == os.cpu_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_a_real_process_on_one_core_makes_one_worker():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pneumoscope.io.cores import available_cores; print(available_cores())\n"
        "from pneumoscope.service.scoring import Scorer; print(Scorer()._workers._max_workers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
