"""What a container lets a process have: the limits of its control groups (Linux), version 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: A limit above this is none; version 1 says "no limit" by a number near 2**63.
_ENDLESS = 1 << 60


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes
    ----------
    memory : int or None
        Bytes, None without a limit: the smallest of this group and of those that it lies in.
    memory_left : int or None
        Bytes of it that are not in use; pages of files count as free, the system drops them when it must.
    cores : float or None
        CPU time per second of wall time.
    """

    memory: int | None = None
    memory_left: int | None = None
    cores: float | None = None


def read_limits(root: Path = Path("/")) -> Limits:
    """Return the limits that hold for this process; all None where there are no control groups.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    memory: int | None = None
    left: int | None = None
    cores: list[float] = []
    for folder in _folders(root, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        if limit is None or limit >= _ENDLESS:
            continue
        free = max(0, limit - max(0, used - _file_pages(folder / "memory.stat")))
        memory = limit if memory is None else min(memory, limit)
        left = free if left is None else min(left, free)
    for folder in _folders(root, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            quota, period = int(words[0]), int(words[1])
        if quota and period and quota > 0:
            cores.append(quota / period)
    return Limits(memory, left, min(cores, default=None))


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups: its own and all above it, as far as they can be seen from here."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            top = mounted if (mounted / "cgroup.controllers").exists() else mounted / "unified"
        elif controller in names.split(","):
            top = next((place for place in (mounted / names, mounted / controller) if place.is_dir()), mounted / names)
        else:
            continue
        parts = Path(path.strip().lstrip("/")).parts
        parts = () if ".." in parts else parts
        for length in range(len(parts), -1, -1):  # in a container only the last, the mounted top, may be there
            folder = top.joinpath(*parts[:length])
            if folder.is_dir():
                yield folder


def _file_pages(path: Path) -> int:
    """Return the bytes of cached files in a group."""
    found = dict(line.split()[:2] for line in _text(path).splitlines() if len(line.split()) == 2)
    names = ("total_inactive_file", "total_active_file")
    names = names if names[0] in found else ("inactive_file", "active_file")
    return sum(int(found.get(name, "0")) for name in names)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
