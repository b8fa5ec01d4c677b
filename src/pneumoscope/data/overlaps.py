"""Pictures that make figures wrong: one picture under both labels, or a test image that is also a training image."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pneumoscope.data.manifest import Manifest, Record


@dataclass(frozen=True)
class Overlaps:
    """Images that should not be there.

    Attributes:
        both_labels: paths of the images whose picture is also there with the other label.
        in_training: paths of the test images whose picture is also a training or validation image.
        patients_with_both_labels: number of patients with images of both labels, which may be right.
    """

    both_labels: tuple[str, ...]
    in_training: tuple[str, ...]
    patients_with_both_labels: int

    def sentences(self) -> list[str]:
        """What is wrong, for people; none if nothing is."""
        found = []
        if self.both_labels:
            found.append(
                f"{len(self.both_labels):,} images show a picture that is there under both labels (first: "
                f"{self.both_labels[0]!r}): correct the labels, one of them is wrong"
            )
        if self.in_training:
            found.append(
                f"{len(self.in_training):,} images are also training or validation images (first: "
                f"{self.in_training[0]!r}): leave them out, they make the figures too good"
            )
        return found


def find_overlaps(manifest: Manifest, records: Sequence[Record], hashes: Mapping[str, str] | None = None) -> Overlaps:
    """Find the overlaps of some radiographs.

    Two images show the same picture if their bytes are equal, or if the scan of the folder found that they do.

    Args:
        manifest: all radiographs.
        records: those to be measured, or trained on.
        hashes: SHA-256 by path, where the manifest has none.
    """
    hashes = hashes or {}
    labels: dict[str, set[str]] = defaultdict(set)
    training: set[str] = set()
    measures_test = {record.split for record in records} == {"test"}
    for record in manifest.records:
        for picture in _pictures(record, hashes):
            labels[picture].add(record.label)
            if measures_test and record.split in ("train", "val"):
                training.add(picture)
    patients: dict[str, set[str]] = defaultdict(set)
    for record in records:
        patients[record.patient].add(record.label)
    return Overlaps(
        both_labels=tuple(
            record.path for record in records if any(len(labels[name]) > 1 for name in _pictures(record, hashes))
        ),
        in_training=tuple(record.path for record in records if training.intersection(_pictures(record, hashes))),
        patients_with_both_labels=sum(len(found) > 1 for found in patients.values()),
    )


def _pictures(record: Record, hashes: Mapping[str, str]) -> list[str]:
    """Texts that are equal for equal pictures."""
    digest = record.sha256 or hashes.get(record.path, "")
    return [text for text in (record.picture and f"picture {record.picture}", digest) if text]
