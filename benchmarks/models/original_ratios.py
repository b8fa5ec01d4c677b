"""Write a manifest for squashed copies, with the aspect ratios of the originals where they are known.

    python benchmarks/models/original_ratios.py COPIES SIZES OUT

COPIES contains ``split/LABEL/image``. SIZES is a CSV file with the columns split, class, file, width and height of the
original radiographs. OUT becomes a folder that can be passed as ``--data``: links to COPIES, and a manifest. Its column
``ratio`` is empty where SIZES has no row. Full-size files do not need this: their ratio is that of their pixels.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

from pneumoscope.data.manifest import MANIFEST_NAME, Manifest, write_manifest
from pneumoscope.data.scan import scan_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("copies", type=Path, help="folder split/LABEL/image")
    parser.add_argument("sizes", type=Path, help="CSV file: split, class, file, width, height")
    parser.add_argument("out", type=Path, help="folder to write")
    arguments = parser.parse_args()
    ratios = _read_ratios(arguments.sizes)
    manifest, refused = scan_folder(arguments.copies)
    records = tuple(replace(record, ratio=ratios.get(record.key, 0.0)) for record in manifest.records)
    known = sum(record.ratio > 0 for record in records)
    if not known:
        raise SystemExit(f"expected sizes of the images in {arguments.copies}, {arguments.sizes} names none of them")
    _link_folders(arguments.copies, arguments.out)
    write_manifest(Manifest(arguments.out, records), arguments.out / MANIFEST_NAME)
    print(f"{len(records)} images, {known} of known ratio, {len(refused)} refused: {arguments.out / MANIFEST_NAME}")


def _read_ratios(sizes: Path) -> dict[str, float]:
    """``split/LABEL/image`` -> width / height."""
    with sizes.open(newline="") as file:
        return {
            f"{row['split']}/{row['class']}/{row['file']}": int(row["width"]) / int(row["height"])
            for row in csv.DictReader(file)
        }


def _link_folders(copies: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path for path in copies.iterdir() if path.is_dir()):
        link = out / folder.name
        link.unlink(missing_ok=True)  # it may lead to other copies
        link.symlink_to(folder.resolve(), target_is_directory=True)


if __name__ == "__main__":
    main()
