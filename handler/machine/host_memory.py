"""How much memory this machine lets the worker and ComfyUI use, and how much of it is free.

A container sees its own control group at the top of /sys/fs/cgroup, of version 2 or 1. ComfyUI
asks psutil, which knows of neither (model_management.get_total_memory).
"""

from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/")


class _Group(NamedTuple):
    """Where a version keeps its figures, in bytes."""

    limit: str
    used: str
    stat: str
    # Of `stat`: cached files not lately used. They count as used and make way.
    cached: str


_V2 = _Group("memory.max", "memory.current", "memory.stat", "inactive_file")
_V1 = _Group(
    "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
    "total_inactive_file",
)  # fmt: skip


def host_memory_bytes(root: Path = _ROOT) -> int | None:
    """The least of the machine's memory and the container's limit; None where neither is known."""
    limits = (_number(_folder(root) / group.limit) for group in (_V2, _V1))
    return _least(_meminfo(root, "MemTotal"), *limits)


def free_memory_bytes(root: Path = _ROOT) -> int | None:
    """What can be had without another's loss, cached files counted as free: of the machine, or of
    the container where that is less. None where neither is known."""
    return _least(_meminfo(root, "MemAvailable"), *(_free(root, group) for group in (_V2, _V1)))


def _free(root: Path, group: _Group) -> int | None:
    limit, used = (_number(_folder(root) / name) for name in (group.limit, group.used))
    if limit is None or used is None:
        return None
    return limit - used + (_field(_folder(root) / group.stat, group.cached) or 0)


def _folder(root: Path) -> Path:
    return root / "sys/fs/cgroup"


def _least(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def _meminfo(root: Path, name: str) -> int | None:
    # Always in kB (proc(5)).
    kilobytes = _field(root / "proc/meminfo", f"{name}:")
    return None if kilobytes is None else kilobytes * 1024


def _number(path: Path) -> int | None:
    # v2 says "max" for no limit; v1 a number near 2 to the 63rd, which the machine's own undercuts.
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _field(path: Path, name: str) -> int | None:
    """The number after `name` in a file of lines such as `name number`."""
    for line in _text(path).splitlines():
        match line.split():
            case [found, number, *_] if found == name and number.isdecimal():
                return int(number)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
