"""Starts a command that must not outlive the worker: `launch.py WORKER_PID COMMAND [ARG...]`.

The kernel kills this process when the worker dies, however it dies. The setting survives exec
(prctl(2), PR_SET_PDEATHSIG), so the command itself runs unchanged. Linux only; elsewhere the
worker still ends its child on every ordered way out.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    worker_pid, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(worker_pid):
            sys.exit(f"launch.py: worker {worker_pid} was gone before its child started")
        # When memory runs out, this process is to go and not the worker, which can start another.
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    os.execv(command[0], command)


main()
