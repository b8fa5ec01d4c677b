"""The same predictions on a Ray cluster.

In: a list of sources. Out: a folder of Parquet parts, with the same bytes as those of one machine.
Read first: ``cluster_run.py``. Needs the extra ``ray``.
"""

from pneumoscope.cluster.cluster_run import ClusterRun

__all__ = ["ClusterRun"]
