"""`python -m gateway` on a machine whose clock a test sets: ahead by as many milliseconds as the
file CLOCK_FILE says."""

import os
import sys
import time
from pathlib import Path

from gateway.cli import main
from gateway.clock import SystemClock

_FILE = Path(os.environ.pop("CLOCK_FILE"))


def _now(_clock: SystemClock) -> int:
    return time.time_ns() // 1_000_000 + int(_FILE.read_text())


if __name__ == "__main__":
    SystemClock.now = _now  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
