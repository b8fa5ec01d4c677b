"""The bundled radiographs: 24 from Kermany et al. 2018, CC BY 4.0 (see ATTRIBUTION.md beside this file)."""

from pathlib import Path

#: Folder with ``manifest.csv`` and one folder per label.
SAMPLES = Path(__file__).parent


def sample_paths() -> list[Path]:
    """Paths of the bundled radiographs, sorted: the normal ones first.

    >>> len(sample_paths()) >= 20
    True
    """
    return sorted(SAMPLES.glob("*/*.jpeg"))
