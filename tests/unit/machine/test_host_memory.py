from pathlib import Path

import psutil
import pytest

from handler.machine.host_memory import free_memory_bytes, host_memory_bytes

V2, V1 = "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"
USED_V2 = {
    "sys/fs/cgroup/memory.current": "900\n",
    "sys/fs/cgroup/memory.stat": "anon 100\ninactive_file 300\n",
}
USED_V1 = {
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "800\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
}
AVAILABLE = {"proc/meminfo": "MemTotal:  8000 kB\nMemAvailable:  6000 kB\n"}


def machine(root: Path, **files: str) -> Path:
    for path, text in {"proc/meminfo": "MemTotal:  64000000 kB\nMemFree: 5 kB\n", **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64_000_000 * 1024),
        ({V2: "32000000000\n"}, 32_000_000_000),
        ({V2: "max\n"}, 64_000_000 * 1024),
        ({V1: "16000000000\n"}, 16_000_000_000),
        ({V1: "9223372036854771712\n"}, 64_000_000 * 1024),
        ({V2: "", "proc/meminfo": ""}, None),
    ],
)
def test_the_least_of_machine_and_container_counts(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    assert host_memory_bytes(machine(tmp_path, **files)) == expected


def test_this_machine_has_no_more_than_its_memory() -> None:
    size = host_memory_bytes()
    assert size is not None
    assert 0 < size <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (AVAILABLE, 6000 * 1024),
        (AVAILABLE | USED_V2 | {V2: "max\n"}, 6000 * 1024),
        (AVAILABLE | USED_V2 | {V2: "1000\n"}, 400),
        (AVAILABLE | USED_V2 | {V2: "1000\n", "sys/fs/cgroup/memory.stat": ""}, 100),
        (AVAILABLE | USED_V1 | {V1: "9223372036854771712\n"}, 6000 * 1024),
        (AVAILABLE | USED_V1 | {V1: "1000\n"}, 400),
        (AVAILABLE | {V2: "1000\n"}, 6000 * 1024),
        ({"proc/meminfo": ""}, None),
    ],
)
def test_free_is_what_machine_and_container_both_have(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    assert free_memory_bytes(machine(tmp_path, **files)) == expected


def test_this_machine_has_no_more_free_than_it_has() -> None:
    free, size = free_memory_bytes(), host_memory_bytes()
    assert free is not None
    assert size is not None
    assert 0 < free <= size
