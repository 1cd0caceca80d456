"""Forked copies of the worker end with it, however it ends.

RunPod's SDK forks a heartbeat (runpod 1.12.0, rp_ping.py) that goes on telling RunPod that the
worker lives after the worker was killed.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_forks_with_worker() -> None:
    """Linux only; elsewhere forks end on every ordered way out."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    parent_pid = 0

    def before_fork() -> None:
        nonlocal parent_pid
        parent_pid = os.getpid()

    def after_fork() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(1)

    os.register_at_fork(before=before_fork, after_in_child=after_fork)
