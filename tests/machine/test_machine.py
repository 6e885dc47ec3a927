"""Limits of containers, threads, flags and disks: read from files that stand for a machine's own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lorameta.machine import cgroups as limits
from lorameta.machine import disk, machine

GB = 1 << 30


def files(root: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert limits.read_limits(tmp_path) == limits.Limits(None, None, None)


def test_version_2_takes_the_tightest_group_and_counts_cached_files_as_free(tmp_path):
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slice/job\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/slice/memory.max": f"{8 * GB}\n",
            "sys/fs/cgroup/slice/memory.current": f"{6 * GB}\n",
            "sys/fs/cgroup/slice/memory.stat": f"anon {GB}\ninactive_file {3 * GB}\nactive_file {GB}\n",
            "sys/fs/cgroup/slice/job/memory.max": "max\n",
            "sys/fs/cgroup/slice/job/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/slice/cpu.max": "max 100000\n",
        },
    )
    assert limits.read_limits(root) == limits.Limits(8 * GB, 6 * GB, 1.5)


def test_in_a_container_its_top_is_all_that_can_be_seen(tmp_path):
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "0::/docker/0123456789\n",
            "sys/fs/cgroup/cgroup.controllers": "",
            "sys/fs/cgroup/memory.max": f"{2 * GB}\n",
            "sys/fs/cgroup/memory.current": f"{GB}\n",
        },
    )
    assert limits.read_limits(root) == limits.Limits(2 * GB, GB, None)


def test_version_1(tmp_path):
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/\n0::/\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{4 * GB}\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{3 * GB}\n",
            "sys/fs/cgroup/memory/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}\ntotal_active_file 0\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert limits.read_limits(root) == limits.Limits(4 * GB, 2 * GB, 2.0)
    (root / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us").write_text("-1\n")
    assert limits.read_limits(root).cores is None


def test_the_limit_of_the_container_is_what_is_available(tmp_path):
    pytest.importorskip("torch")
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/cpuinfo": "processor : 0\nmodel name : Some CPU\nflags : fpu avx2 avx512f avx512_bf16 amx_bf16\n",
            "sys/fs/cgroup/cgroup.controllers": "",
            "sys/fs/cgroup/memory.max": f"{GB // 4}\n",
            "sys/fs/cgroup/memory.current": f"{GB // 8}\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
        },
    )
    found = machine.look(root)
    assert (found.available, found.limit) == (GB // 8, GB // 4)
    assert found.usable_cores == 0.5
    assert found.right_threads == 1
    assert found.processor == "Some CPU"
    assert found.flags == ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    assert found.bfloat16 == "AMX"


def test_this_machine_is_what_the_system_says():
    psutil = pytest.importorskip("psutil")
    torch = pytest.importorskip("torch")
    found = machine.look()
    assert found.memory == psutil.virtual_memory().total
    assert 0 < found.available <= found.memory
    assert found.threads == torch.get_num_threads()
    assert 0 < found.usable_cores <= os.cpu_count()
    if found.limit is not None:
        assert found.available <= found.limit < found.memory


SIXTEEN = machine.Machine("x", 16, 16, 16, 0.0, 64 * GB, 60 * GB, None, (), "AVX2", "none")


@pytest.mark.parametrize(
    ("changes", "environment", "expected"),
    [
        ({}, {}, None),
        ({"threads": 1}, {"OMP_NUM_THREADS": "1"}, ["1 of 16 cores", "OMP_NUM_THREADS=1", "unset it"]),
        ({"threads": 4}, {}, ["4 of 16 cores", "set OMP_NUM_THREADS to 16"]),
        ({"threads": 4, "usable_cores": 4}, {}, None),
        ({"threads": 16, "usable_cores": 2.5}, {}, ["16 threads on 2.5 cores", "set OMP_NUM_THREADS to 3"]),
        ({"threads": 3, "usable_cores": 2.5}, {}, None),
        ({"threads": 8, "physical_cores": 8}, {}, None),
    ],
)
def test_a_wrong_number_of_threads_is_pointed_out(changes, environment, expected):
    said = machine.thread_problem(replace(SIXTEEN, **changes), environment)
    assert (said is None) == (expected is None)
    assert all(words in said for words in expected or [])


def test_the_disk_is_read_and_left_as_it_was(tmp_path):
    found = disk.look(tmp_path / "not" / "there")
    assert found.path == str(tmp_path)
    assert 0 < found.free <= found.total
    assert list(tmp_path.iterdir()) == []
    if found.read is None:
        assert found.unmeasured.startswith("not measured: ")
    else:
        assert found.read > 0
        assert found.sample <= found.free // 50
    assert disk.look(tmp_path, measure=False).read is None


def test_what_was_written_is_removed_also_when_reading_fails(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    found = disk.look(tmp_path)
    assert found.read is None
    assert "Input/output error" in found.unmeasured
    assert list(tmp_path.iterdir()) == []


def test_a_disk_is_slow_below_200_megabytes_a_second():
    place = disk.Disk("/", 1, 1, 199e6)
    assert place.slow
    assert not replace(place, read=201e6).slow
    assert not replace(place, read=None).slow
