import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT_DIR = Path(__file__).resolve().parents[3]
Worker = subprocess.Popen[bytes]


def is_running(pid: int) -> bool:
    """Also false for a zombie: it runs no more, and its new parent has yet to reap it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def worker() -> Iterator[Worker]:
    with subprocess.Popen(
        [sys.executable, str(PROJECT_DIR / "tests" / "children" / "forking_worker.py")],
        env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)},
        stdout=subprocess.PIPE,
    ) as worker:
        yield worker
        worker.kill()


@pytest.fixture
def fork(worker: Worker) -> Iterator[int]:
    """The pid of the worker's fork."""
    assert worker.stdout is not None
    pid = int(worker.stdout.readline().split()[1])
    yield pid
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)


def test_a_fork_of_a_worker_that_is_killed_dies(worker: Worker, fork: int) -> None:
    assert is_running(fork)
    worker.kill()
    wait_gone(fork)


def test_a_fork_ends_on_sigterm_though_the_worker_handles_it(worker: Worker, fork: int) -> None:
    os.kill(fork, signal.SIGTERM)
    wait_gone(fork)
    assert worker.poll() is None


def test_a_fork_of_a_fork_lives(worker: Worker, fork: int) -> None:
    os.kill(fork, signal.SIGUSR1)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"a fork of the fork ended with 0\n"
