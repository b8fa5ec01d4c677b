"""Files and threads that know nothing of radiographs.

In: bytes, arrays, work items. Out: files that are whole or absent, results in order.
Read first: ``atomic.py``.
"""

from pneumoscope.io.atomic import write_atomic, write_npz
from pneumoscope.io.prefetch import ordered_prefetch

__all__ = ["ordered_prefetch", "write_atomic", "write_npz"]
