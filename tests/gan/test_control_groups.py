"""Do the limits of a container count, in cores and in memory?

Version 1 and version 2 of Linux's control groups have them in other files.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gan.control_groups import free_memory, max_cores

GROUPS = {  # name -> (/proc/self/cgroup, files of the control groups, cores)
    "version 2, container": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "version 2, own group": (
        "0::/user.slice/train.scope\n",
        {"user.slice/cpu.max": "max 100000\n", "user.slice/train.scope/cpu.max": "200000 100000\n"},
        2,
    ),
    "version 2, group above": (
        "0::/batch/job\n",
        {"batch/cpu.max": "300000 100000\n", "batch/job/cpu.max": "max 100000\n"},
        3,
    ),
    "version 1, container": (
        "3:cpuset:/\n2:cpu,cpuacct:/docker/0123\n0::/docker/0123\n",
        {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"},
        2,
    ),
    "version 1, own group": (
        "1:cpu:/job\n",
        {
            "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
            "cpu/job/cpu.cfs_quota_us": "1000\n", "cpu/job/cpu.cfs_period_us": "100000\n",
        },
        1,
    ),
    "version 1, no link": (
        "4:cpu,cpuacct:/\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "a group of other controllers": (
        "1:memory:/job\n",
        {"cpu/job/cpu.cfs_quota_us": "100000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "no limit": ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "0\n"}, None),
    "lines of another form": ("\n0\n0::/a\n", {"a/cpu.max": "200000 100000\n"}, 2),
    "no groups": ("", {}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_the_quota_of_each_control_group_counts(tmp_path: Path, name: str) -> None:
    own, files, cores = GROUPS[name]
    write(tmp_path, own, files)
    assert max_cores(tmp_path) == cores


MEMORY_GROUPS = {  # name -> (/proc/self/cgroup, files of the control groups, bytes that are left)
    "version 2, container": (
        "0::/\n",
        {"memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 1\ninactive_file 300\n"},
        400,
    ),
    "version 2, group above": (
        "0::/batch/job\n",
        {
            "batch/memory.max": "1000\n", "batch/memory.current": "400\n", "batch/memory.stat": "inactive_file 0\n",
            "batch/job/memory.max": "max\n", "batch/job/memory.current": "1\n", "batch/job/memory.stat": "",
        },
        600,
    ),
    "version 1, container": (
        "2:memory:/docker/0123\n",
        {
            "memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "500\n",
            "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 100\n",
        },
        600,
    ),
    "more is used than allowed": (
        "0::/\n", {"memory.max": "10\n", "memory.current": "20\n", "memory.stat": "inactive_file 0\n"}, 0,
    ),
    "no limit": ("0::/\n", {"memory.max": "max\n", "memory.current": "20\n", "memory.stat": ""}, 1 << 20),
    "files that cannot be read": ("0::/\n", {"memory.max": "1000\n"}, 1 << 20),
    "no groups": ("", {}, 1 << 20),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY_GROUPS)
def test_the_memory_limit_of_each_control_group_counts(tmp_path: Path, name: str) -> None:
    own, files, left = MEMORY_GROUPS[name]
    write(tmp_path, own, files)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\n")
    assert free_memory(tmp_path) == left


def write(root: Path, own: str, files: Mapping[str, str]) -> None:
    """Write what the kernel says of the control groups below a folder."""
    texts = {f"sys/fs/cgroup/{path}": text for path, text in files.items()} | {"proc/self/cgroup": own}
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
