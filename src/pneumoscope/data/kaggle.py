"""The Kaggle set of the Kermany radiographs: its download, and the number of images that it should have."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pneumoscope.data.manifest import OFFICIAL_SPLITS, Manifest
from pneumoscope.errors import DatasetError, MissingExtra
from pneumoscope.labels import NORMAL, PNEUMONIA
from pneumoscope.radiographs.zip_files import DAMAGE

if TYPE_CHECKING:  # comes with kagglehub, which is an extra
    import requests

#: "Chest X-Ray Images (Pneumonia)", Kermany et al. 2018, as published on Kaggle by Paul Mooney.
KAGGLE_SET = "paultimothymooney/chest-xray-pneumonia"
#: Number of its images by official split and label.
KAGGLE_COUNTS = {
    ("train", NORMAL): 1341, ("train", PNEUMONIA): 3875,
    ("val", NORMAL): 8, ("val", PNEUMONIA): 8,
    ("test", NORMAL): 234, ("test", PNEUMONIA): 390,
}  # fmt: skip

_BY_HAND = "or download the zip in a browser and name it with  --from FILE.zip"
_CONTINUE = "run the same command again, the download continues where it stopped"


def download_kaggle() -> Path:
    """The folder of the Kaggle set in kagglehub's cache, downloaded if it is not there yet.

    kagglehub's ``output_dir`` is not used: it refuses a folder with a partial download, and the cache resumes it.

    Raises:
        DatasetError: the download failed, with what to do about it.
        MissingExtra: kagglehub is not installed.
    """
    with contextlib.redirect_stdout(sys.stderr):  # kagglehub reports on standard output, which is for results
        try:
            import kagglehub
        except ImportError:
            raise MissingExtra("downloading from Kaggle", "train", "kagglehub") from None
        import requests

        try:
            return Path(kagglehub.dataset_download(KAGGLE_SET))
        except requests.RequestException as error:
            raise _request_error(error) from None
        except OSError as error:  # after the errors of requests, which are OSErrors too
            raise DatasetError(
                f"expected to keep the download in {error.filename or 'the cache of kagglehub'}, the system says "
                f"{error.strerror or error}: free some space or set KAGGLEHUB_CACHE to another folder, and {_CONTINUE}"
            ) from None
        except Exception as error:  # kagglehub's own errors have no common base class
            raise _kagglehub_error(error) from None


def count_errors(manifest: Manifest, folder: Path) -> list[str]:
    """One sentence for each split and label whose count is not Kaggle's; none without train, val and test folders."""
    if not any((folder / split).is_dir() for split in OFFICIAL_SPLITS):
        return []
    counts = manifest.counts()
    errors = []
    for (split, label), expected in KAGGLE_COUNTS.items():
        count = counts.get((split, label), 0)
        if count != expected:
            remedy = "fetch a complete copy" if count < expected else "this is not the Kaggle set alone"
            errors.append(f"expected {expected} {label} images in {split}, found {count}: {remedy}")
    return errors


def _request_error(error: "requests.RequestException") -> DatasetError:
    """One sentence for an error of ``requests``, whose own text would show the signed address of the download."""
    import requests

    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return _credentials_error(f"HTTP {status}")
    if status == 404:
        return DatasetError(f"expected the data set {KAGGLE_SET} on Kaggle, received HTTP 404: try later, {_BY_HAND}")
    if status is not None:
        return DatasetError(f"expected the data set from Kaggle, received HTTP {status}: try later, {_BY_HAND}")
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return DatasetError(
            f"expected an answer from Kaggle, could not connect ({type(error).__name__}): check the network and the "
            f"proxy, and {_CONTINUE}, {_BY_HAND}"
        )
    return DatasetError(
        f"expected the complete download from Kaggle, the transfer was interrupted ({type(error).__name__}): "
        f"{_CONTINUE}, {_BY_HAND}"
    )


def _kagglehub_error(error: Exception) -> DatasetError:
    if "credentials" in str(error).lower() or "authenticated" in str(error).lower():
        return _credentials_error(str(error))
    if type(error).__name__ == "DataCorruptionError" or isinstance(error, DAMAGE):
        _discard_archive()
        return DatasetError(
            "expected a complete archive from Kaggle, received a damaged one, which was deleted: "
            f"run the same command again, {_BY_HAND}"
        )
    return DatasetError(f"expected a download from Kaggle, kagglehub says {error}: try again, {_BY_HAND}")


def _credentials_error(received: str) -> DatasetError:
    return DatasetError(
        f"expected valid Kaggle credentials, received {received}: create an API token in the settings of your Kaggle "
        "account and save it as ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY, or KAGGLE_API_TOKEN, "
        f"{_BY_HAND}"
    )


def _discard_archive() -> None:
    """Delete the archive that kagglehub keeps for resuming: it accepts any file of the full size as a good one."""
    from kagglehub.config import get_cache_folder

    for archive in Path(get_cache_folder(), "datasets", KAGGLE_SET).glob("*.archive"):
        archive.unlink()
