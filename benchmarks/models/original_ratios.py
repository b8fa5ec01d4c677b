"""Write the manifest of a folder of squashed copies, with the aspect ratios of the originals where they are known.

    python benchmarks/models/original_ratios.py COPIES SIZES OUT

COPIES holds ``split/LABEL/image``, SIZES is a CSV with the columns split, class, file, width and height of the
original radiographs. OUT becomes a folder to give as ``--data``: links to COPIES, and a manifest whose column
``ratio`` is empty where SIZES has no row. Full-size files need none of this: their ratio is their own.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

from pneumoscope.data.manifest import MANIFEST_NAME, Manifest, scan_folder, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("copies", "sizes", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    with arguments.sizes.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ratios = {f"{row['split']}/{row['class']}/{row['file']}": int(row["width"]) / int(row["height"]) for row in rows}
    manifest, refused = scan_folder(arguments.copies)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path for path in arguments.copies.iterdir() if path.is_dir()):
        link = arguments.out / folder.name
        link.unlink(missing_ok=True)  # of other copies
        link.symlink_to(folder.resolve(), target_is_directory=True)
    records = tuple(replace(record, ratio=ratios.get(record.key, 0.0)) for record in manifest.records)
    write_manifest(Manifest(arguments.out, records), arguments.out / MANIFEST_NAME)
    known = sum(record.ratio > 0 for record in records)
    if not known:
        raise SystemExit(f"expected sizes of the images in {arguments.copies}, {arguments.sizes} names none of them")
    print(f"{len(records)} images, {known} of known ratio, {len(refused)} refused: {arguments.out / MANIFEST_NAME}")


if __name__ == "__main__":
    main()
