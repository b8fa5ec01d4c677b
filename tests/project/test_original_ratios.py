"""Copies with the aspect ratios of their originals: the script that writes their manifest."""

import subprocess
import sys

from builders import ROOT

from pneumoscope.data import read_dataset

SCRIPT = ROOT / "benchmarks" / "models" / "original_ratios.py"
HEADER = "split,class,file,width,height\n"


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_known_ratios_are_those_of_the_originals_and_others_stay_empty(data_folder, tmp_path):
    copies = data_folder("train/NORMAL/IM-0001-0001.jpeg", "train/PNEUMONIA/person1_virus_1.jpeg")
    sizes, out = tmp_path / "sizes.csv", tmp_path / "out"
    sizes.write_text(HEADER + "train,NORMAL,IM-0001-0001.jpeg,1800,1200\n")
    out.mkdir()
    (out / "train").symlink_to(tmp_path)  # of other copies
    for _ in range(2):
        done = run(copies, sizes, out)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("2 images, 1 of known ratio, 0 refused")
        manifest = read_dataset(out)
        assert {r.path: r.ratio for r in manifest.records} == {
            "train/NORMAL/IM-0001-0001.jpeg": 1.5,
            "train/PNEUMONIA/person1_virus_1.jpeg": 0.0,
        }
        assert all(manifest.path(record).read_bytes() for record in manifest.records)


def test_sizes_of_other_images_are_said(data_folder, tmp_path):
    copies, sizes = data_folder("train/NORMAL/IM-0001-0001.jpeg"), tmp_path / "sizes.csv"
    sizes.write_text(HEADER)
    done = run(copies, sizes, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("expected sizes of the images in")
