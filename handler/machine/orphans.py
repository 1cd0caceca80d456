"""Processes that the worker makes end with it, however it ends."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Called in a process that the main thread of `parent_pid` has made: it is killed when that
    thread ends (prctl(2), PR_SET_PDEATHSIG). Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def end_forks_with_worker() -> None:
    """RunPod's SDK forks a heartbeat (runpod 1.12.0, rp_ping.py) that would go on telling RunPod
    that the worker lives after the worker was killed. Linux only; elsewhere forks end on every
    ordered way out."""
    if sys.platform != "linux":
        return
    parent_pid = 0

    def before_fork() -> None:
        nonlocal parent_pid
        parent_pid = os.getpid()

    def after_fork() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent(parent_pid)

    os.register_at_fork(before=before_fork, after_in_child=after_fork)
