"""A worker that forks, as RunPod's SDK does for its heartbeat: prints the fork's pid and waits.
On SIGUSR1 the fork forks too, and prints that fork's exit code."""

import multiprocessing
import os
import signal

from handler.machine.orphans import end_forks_with_worker


def fork_again(*_: object) -> None:
    fork = os.fork()
    if fork == 0:
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    print(f"a fork of the fork ended with {code}", flush=True)


def beat() -> None:
    signal.signal(signal.SIGUSR1, fork_again)
    print(f"pid {os.getpid()}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    # The worker's own handler, which the fork must not keep.
    signal.signal(signal.SIGTERM, lambda *_: None)
    end_forks_with_worker()
    multiprocessing.get_context("fork").Process(target=beat, daemon=True).start()
    while True:
        signal.pause()
