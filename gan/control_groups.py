"""How many cores and how much memory may this process use? A container's limits are control groups of Linux."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def max_cores(root: Path = ROOT) -> int | None:
    """Return the smallest CPU limit of this process's control groups, rounded up. None if there is none."""
    return min((cores for folder in _folders("cpu", root) if (cores := _quota(folder))), default=None)


def free_memory(root: Path = ROOT) -> int:
    """Return how many bytes of memory this process can still get, without those that files only cache."""
    allowed = [left for folder in _folders("memory", root) if (left := _memory_left(folder)) is not None]
    return min([_machine_memory(root), *allowed])


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folder of each control group that may limit this process: its own, and all above it.

    In a container the path of the own group may be that of the host. Then only the container's top folder exists.
    """
    top = root / "sys/fs/cgroup"
    yield top
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):  # ValueError: a name that is not UTF-8
        return
    for line in lines:  # NUMBER:CONTROLLERS:/PATH; version 2 names no controllers
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers or controller in controllers.split(","):
            own = PurePosixPath(path.lstrip("/"))
            mounts = {top / controller, top / controllers} if controllers else {top}
            yield from (mount / group for mount in mounts for group in (own, *own.parents))


def _quota(folder: Path) -> int | None:
    """Return the CPU limit of one control group, rounded up. None if there is none."""
    version_1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        names = ("cpu.max",) if (folder / "cpu.max").exists() else version_1
        quota, period = (int(word) for name in names for word in (folder / name).read_text().split())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    return max(1, -(-quota // period)) if quota > 0 and period > 0 else None  # version 1 writes -1 for none


def _memory_left(folder: Path) -> int | None:
    """Return the bytes that one control group still allows. None if it has no limit."""
    is_version_1 = (folder / "memory.limit_in_bytes").exists()
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if is_version_1 else ("memory.max", "memory.current")
    cached = "total_inactive_file" if is_version_1 else "inactive_file"
    try:
        limit, used = (int((folder / name).read_text()) for name in names)
        stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat[cached]))
    except (OSError, KeyError, ValueError):  # no such group, or "max"
        return None


def _machine_memory(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        fields = {line.split()[0]: int(line.split()[1]) for line in lines if line}
        return fields["MemAvailable:"] * 1024
    except (OSError, KeyError, ValueError):  # no Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
