"""The bundled radiographs: real ones, CC BY 4.0, Kermany et al. 2018 (see ATTRIBUTION.md beside this file)."""

from pathlib import Path

#: Folder with ``manifest.csv`` and the label folders.
SAMPLES = Path(__file__).parent


def sample_paths() -> list[Path]:
    """Paths of the bundled radiographs, sorted: first the normal ones.

    >>> len(sample_paths()) >= 20
    True
    """
    return sorted(SAMPLES.glob("*/*.jpeg"))
