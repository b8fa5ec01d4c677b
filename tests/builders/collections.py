"""Collections of labelled radiographs as zips and folders, in the shape of Kaggle's archive."""

import zipfile
from pathlib import Path

TRAIN_NORMAL = "chest_xray/train/NORMAL/"


def write_zip(path: Path, files: dict, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip of files by their names."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(folder: Path, files: dict) -> Path:
    """Write files by their names below a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def first_normal(layout: dict) -> str:
    """A normal radiograph of the training split."""
    return next(name for name in layout if name.startswith(TRAIN_NORMAL))


def jpeg_names(folder: Path) -> set[str]:
    """All JPEG files below a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix == ".jpeg"}


def times_of_files(folder: Path) -> dict[str, int]:
    """Time of the last change of everything below a folder."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def with_macos_leftovers(layout: dict) -> dict[str, bytes]:
    """The files as in Kaggle's archive: with a second copy, ._ files and .DS_Store."""
    copy = {name.replace("chest_xray/", "chest_xray/chest_xray/", 1): data for name, data in layout.items()}
    leftovers = {
        "chest_xray/__MACOSX/" + name.replace("IM-", "._IM-").replace("person", "._person"): b"\0\5\x16\7"
        for name in layout
    }
    stores = {"chest_xray/.DS_Store": b"\0", "chest_xray/train/NORMAL/.DS_Store": b"\0"}
    return {**layout, **copy, **leftovers, **stores}
