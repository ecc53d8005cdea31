"""How many cores this process may use: those it may run on, and no more than a container's limit pays for.

A container with "2 CPUs" usually runs on all cores of its machine for a share of the time: a group's quota of each
period. Threads for every core would use the quota up early in each period, and then all stand still. Python knows of
the cores and not of the quota, so that is read from Linux' control groups, version 2 or 1
(docs.kernel.org/admin-guide/cgroup-v2.html, "cpu.max").
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on and may pay for; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    paid = quota(CGROUPS, MEMBERSHIP)
    return cores if paid is None else max(1, min(cores, math.ceil(paid)))


def quota(cgroups: Path, membership: Path) -> float | None:
    """The least number of cores that a control group of this process, or one above it, may use; ``None`` without limit.

    Parameters
    ----------
    cgroups
        Where the control groups are mounted.
    membership
        The file that tells this process's groups.
    """
    limits = [limit for folder in _groups(cgroups, membership) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _groups(cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups and of all above them."""
    try:
        lines = membership.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            mount = cgroups
        elif "cpu" in controllers.split(","):
            mount = cgroups / "cpu"
        else:
            continue
        folder = mount / path.lstrip("/")
        # Inside a container the path may be the host's: then only the mount itself, which is the container's, is there.
        while folder != mount and folder.is_relative_to(mount):
            yield folder
            folder = folder.parent
        yield mount


def _limit(folder: Path) -> float | None:
    """What ``cpu.max`` (version 2) or ``cpu.cfs_quota_us`` (version 1) of a group says."""
    try:
        if (file := folder / "cpu.max").is_file():
            allowed, period = file.read_text("utf-8").split()
        else:
            allowed = (folder / "cpu.cfs_quota_us").read_text("utf-8")
            period = (folder / "cpu.cfs_period_us").read_text("utf-8")
        cores = float(allowed) / float(period)  # "max" is no number, and -1 no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
