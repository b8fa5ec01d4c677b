"""Inspected files -> findings: files that cannot be used, copies, labels that contradict, patients on two sides."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypedDict

import numpy as np

from pneumoscope.data import NO_SPLIT, Record, same_pictures
from pneumoscope.evaluation.audit.inspection import Inspected
from pneumoscope.labels import LABELS

#: A finding that makes figures wrong, and one that may be right and should be known.
FAULT, NOTE = "fault", "note"

_MIN_SHARE = 0.2  # of the images in the smaller class; below, accuracy says little


class Finding(TypedDict):
    """One kind of thing that is wrong.

    ``kind`` is a word for programs, ``severity`` one of :data:`FAULT` and :data:`NOTE`, ``sentence`` for people says
    how many and what to do, and ``items`` names the paths: one list for each picture, patient or file.
    """

    kind: str
    severity: str
    sentence: str
    items: list[list[str]]


def find_faults(files: Sequence[Inspected]) -> list[Finding]:
    """What is wrong with the files of a collection, faults first."""
    usable = [file for file in files if not file.problem]
    pictures = _group_pictures(usable)
    findings = [
        *_unusable(files),
        _finding(
            "changed", FAULT, "{} files are not those of the manifest (SHA-256): make the manifest again",
            [[file.record.path] for file in files if file.sha256 and file.record.sha256 not in ("", file.sha256)],
        ),
        _finding(
            "label_conflict", FAULT, "{} pictures are there under both labels: correct the labels, one is wrong",
            _differing(pictures, lambda record: record.label),
        ),
        _finding(
            "picture_across_splits", FAULT,
            "{} pictures are there in two splits: remove them from one, they make the figures too good",
            _differing(pictures, lambda record: record.split),
        ),
        _finding(
            "patient_across_splits", FAULT,
            "{} patients are there in two splits: put each in one, they make the figures too good",
            _differing(_by_patient(files), lambda record: record.split),
        ),
        _finding(
            "exact_copy", NOTE, "{} pictures are there more than once, pixel for pixel",
            [_paths(group) for group in _group(usable, lambda file: file.pixels_sha256)],
        ),
        _finding(
            "near_copy", NOTE, "{} pictures are there more than once, saved in different ways",
            [_paths(group) for group in pictures if len({file.pixels_sha256 for file in group}) > 1],
        ),
        _finding(
            "patient_with_both_labels", NOTE, "{} patients have images of both labels, which may be right",
            _differing(_by_patient(files), lambda record: record.label),
        ),
        *_small_class(usable),
    ]  # fmt: skip
    found = [finding for finding in findings if finding["items"]]
    return sorted(found, key=lambda finding: finding["severity"] != FAULT)


def _finding(kind: str, severity: str, sentence: str, items: list[list[str]]) -> Finding:
    return {"kind": kind, "severity": severity, "sentence": sentence.format(f"{len(items):,}"), "items": items}


def _unusable(files: Sequence[Inspected]) -> list[Finding]:
    """A finding for each code of a problem, the most frequent first."""
    by_code: dict[str, list[Inspected]] = defaultdict(list)
    for file in files:
        if file.problem:
            by_code[file.code].append(file)
    return [
        _finding(code, FAULT, "{} files cannot be used: " + _escape(group[0].problem), [[f.record.path] for f in group])
        for code, group in sorted(by_code.items(), key=lambda item: -len(item[1]))
    ]


def _escape(sentence: str) -> str:
    return sentence.replace("{", "{{").replace("}", "}}")


def _small_class(usable: Sequence[Inspected]) -> list[Finding]:
    """One class with few images, or none."""
    counts = {label: sum(file.record.label == label for file in usable) for label in LABELS}
    label = min(LABELS, key=lambda label: counts[label])
    if not usable or counts[label] >= _MIN_SHARE * len(usable):
        return []
    sentence = f"{counts[label]:,} of {len(usable):,} images are {label}: accuracy says little, use other figures"
    return [{"kind": "small_class", "severity": NOTE, "sentence": sentence, "items": [[]]}]


def _group(files: Iterable[Inspected], key: Callable[[Inspected], Hashable]) -> list[list[Inspected]]:
    """Groups of at least two files with the same key, in their order."""
    groups: dict[Hashable, list[Inspected]] = defaultdict(list)
    for file in files:
        groups[key(file)].append(file)
    return [group for group in groups.values() if len(group) > 1]


def _group_pictures(usable: Sequence[Inspected]) -> list[list[Inspected]]:
    """Groups of files that show the same picture, however it was saved."""
    first = list(range(len(usable)))  # of each file, the first that shows its picture
    thumbnails = [file.thumbnail for file in usable if file.thumbnail is not None]
    for a, b in same_pictures(np.stack(thumbnails)) if thumbnails else []:
        old, new = max(first[a], first[b]), min(first[a], first[b])
        first = [new if place == old else place for place in first]
    place_of = {id(file): first[place] for place, file in enumerate(usable)}
    return _group(usable, lambda file: place_of[id(file)])


def _by_patient(files: Sequence[Inspected]) -> list[list[Inspected]]:
    return _group(files, lambda file: file.record.patient)


def _differing(groups: Iterable[list[Inspected]], value: Callable[[Record], str]) -> list[list[str]]:
    """Paths of the groups whose records differ in a value; images in no split differ from none."""
    return [_paths(group) for group in groups if len({value(file.record) for file in group} - {NO_SPLIT}) > 1]


def _paths(group: Iterable[Inspected]) -> list[str]:
    return [file.record.path for file in group]
