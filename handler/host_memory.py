"""How much memory this machine lets the worker and ComfyUI use."""

from pathlib import Path


def host_memory_bytes(root: Path = Path("/")) -> int | None:
    """The least of the machine's memory and the container's limit; None where neither is known.

    ComfyUI asks psutil, which does not know of the limit (comfy/model_management.py:209).
    """
    known = [_total(root / "proc/meminfo"), *map(_limit, _limit_files(root))]
    return min((size for size in known if size is not None), default=None)


def _limit_files(root: Path) -> tuple[Path, ...]:
    """A container sees its own group at the top: cgroup v2, then v1."""
    group = root / "sys/fs/cgroup"
    return group / "memory.max", group / "memory" / "memory.limit_in_bytes"


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    # v2 says "max" for none; v1 a number near 2 to the 63rd, which the machine's own undercuts.
    return int(text) if text.isdecimal() else None


def _total(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    fields = next((line.split() for line in lines if line.startswith("MemTotal:")), [])
    # Always in kB (proc(5)).
    return int(fields[1]) * 1024 if len(fields) > 1 and fields[1].isdecimal() else None
