"""Ends a ComfyUI that takes more memory than it may, before the kernel ends the whole container.

It is looked at, since no limit of the kernel's fits: RLIMIT_AS and RLIMIT_DATA count what CUDA
reserves and weights that are mapped and not in memory, and a container can't make control groups.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

# A workflow that doubles a text fills a gigabyte in a second.
_LOOK_EVERY_S = 0.1
# Not files that are mapped, such as weights: they make way.
_COUNTED = frozenset({"RssAnon:", "RssShmem:"})


def watch_memory(pid: int, limit_bytes: int, on_exceeded: Callable[[int], None]) -> None:
    """From a thread of its own, until the process ends; `on_exceeded` is called once, with the
    bytes. Linux only."""

    def watch() -> None:
        while (used := used_bytes(pid)) is not None:
            if used > limit_bytes:
                on_exceeded(used)
                return
            time.sleep(_LOOK_EVERY_S)

    threading.Thread(target=watch, name="comfyui-memory", daemon=True).start()


def used_bytes(pid: int) -> int | None:
    """None for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = [line.split() for line in lines.splitlines()]
    # Always in kB (proc(5)).
    sizes = [int(words[1]) * 1024 for words in found if words and words[0] in _COUNTED]
    return sum(sizes) if sizes else None
