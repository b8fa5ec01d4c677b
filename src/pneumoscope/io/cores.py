"""How many cores this process may use: by its affinity, and by the quota of its container."""

import math
import os
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that this process may use, at least 1.

    The affinity says on which cores it may run (``taskset``, ``--cpuset-cpus``). The quota of its control groups says
    how much time it gets on them (``--cpus``, CPU limits of Kubernetes), rounded up to whole cores.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on macOS and Windows; refused in some containers
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota())))


def _quota() -> float:
    """The smallest quota of the control groups that this process is in; infinite without one."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, read = _MOUNT, _quota_of_version_2
        elif "cpu" in controllers.split(","):
            root, read = _MOUNT / controllers, _quota_of_version_1
            root = root if root.is_dir() else _MOUNT / "cpu"
        else:
            continue
        group = root / path.lstrip("/")
        # In a container, this may be the path outside of it, which does not exist inside. The root is its group then.
        quotas += [read(folder) for folder in (group, *group.parents) if folder == root or root in folder.parents]
    return min(quotas)


def _quota_of_version_2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _quota_of_version_1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
