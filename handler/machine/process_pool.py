"""Processes for work that may never end or take all memory: each can be killed in the middle of it.

Threads can't be, and the standard library's pools let nobody kill one process of several.
"""

import asyncio
import contextlib
import fcntl
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handler.machine.daemon_thread import in_daemon_thread
from handler.machine.messages import receive_message, send_message

# As much as Linux allows whoever is not root (pipe(7)).
_PIPE_BYTES = 1 << 20


class ProcessEnded(Exception):
    """The process ended before it answered; `exit_code` is negative for a signal."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class ProcessPool:
    """At most `most` processes of `argv`, to which the pid of this one is added. Each answers
    message after message, as in messages.py, on stdin and stdout.

    They are made in the thread of the event loop, the main one: the kernel ends them with it.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, most: int) -> None:
        self._argv = list(argv)
        self._env = dict(env)
        self._cwd = cwd
        self._slots = asyncio.Semaphore(most)
        self._idle: list[_Process] = []

    def warm_up(self) -> None:
        """Have one process ready soon."""
        if not self._idle:
            self._idle.append(self._start())

    async def ask(self, head: Any, *pieces: bytes) -> tuple[Any, list[bytes]]:
        """The answer. Raises ProcessEnded. A process whose caller no longer waits is killed."""
        async with self._slots:
            process = self._take()
            try:
                answer = await in_daemon_thread(lambda: process.ask(head, *pieces))
            except BaseException:
                process.kill()
                self.warm_up()
                raise
            self._idle.append(process)
            return answer

    def close(self) -> None:
        """Of those that are idle; the others are killed when their callers end."""
        while self._idle:
            self._idle.pop().end()

    def _take(self) -> "_Process":
        while self._idle:
            process = self._idle.pop()
            if process.is_running():
                return process
            process.end()
        return self._start()

    def _start(self) -> "_Process":
        child = subprocess.Popen(
            [*self._argv, str(os.getpid())], env=self._env, cwd=self._cwd,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            # A terminal's Ctrl-C is for the worker, which ends them.
            start_new_session=True,
        )  # fmt: skip
        for pipe in (child.stdin, child.stdout):
            # Else a picture goes through in pieces of 64 kB, with a change of process for each.
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
        return _Process(child)


class _Process:
    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def is_running(self) -> bool:
        return self._child.poll() is None

    def ask(self, head: Any, *pieces: bytes) -> tuple[Any, list[bytes]]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            send_message(self._child.stdin, head, *pieces)
            return receive_message(self._child.stdout)
        except (OSError, EOFError, ValueError) as exc:
            raise ProcessEnded(self.end()) from exc

    def kill(self) -> None:
        self._child.kill()

    def end(self) -> int:
        """The exit code; its own where it had ended before."""
        self.kill()
        exit_code = self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return exit_code
