import subprocess
import sys

SCRIPT = """
import re
from pathlib import Path
from handler.machine.malloc import return_large_buffers

def resident_kb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

{first}
before = resident_kb()
buffer = bytearray(20_000_000)
del buffer
pins = []
for _ in range(4):
    buffer = bytearray(10_000_000)
    pins.append(bytearray(100_000))  # what keeps the heap from shrinking
    del buffer
print(resident_kb() - before)
"""


def growth_kb(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(first=first)],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return int(done.stdout)


def test_large_buffers_leave_nothing_behind() -> None:
    assert growth_kb("return_large_buffers()") < 2000
    # What it is for: without it, the heap keeps them.
    assert growth_kb("") > 8000
