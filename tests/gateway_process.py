"""A real gateway as a process of its own: started, killed, started again on the same data."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx

from tests.gateways import edit

PROJECT_DIR = Path(__file__).resolve().parent.parent
START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class GatewayProcess:
    """`python -m gateway serve`; `settings` are environment variables. With `hooks` RunPod is told
    where to send them. Use as `with`."""

    def __init__(self, folder: Path, hooks: bool = False, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = folder / "data"
        self.log_path = folder / "gateway.log"
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(PROJECT_DIR),
            "GATEWAY_DATA_DIR": str(self.data_dir),
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "GATEWAY_RATE_LIMIT": "100000/minute",
            **({"GATEWAY_PUBLIC_URL": self.url} if hooks else {}),
            **settings,
        }
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.http.close()

    def start(self) -> None:
        """Returns once it answers."""
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"], env=self._env, cwd=PROJECT_DIR,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while True:
            assert self._child.poll() is None, self.tail()
            assert time.monotonic() < deadline, self.tail()
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/health").status_code == 200:
                    return
            time.sleep(0.05)

    def command(self, *words: str) -> str:
        """What `python -m gateway` with these words writes."""
        ran = subprocess.run(
            [sys.executable, "-m", "gateway", *words], env=self._env, cwd=PROJECT_DIR,
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return ran.stdout

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM. The exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self._child is not None
        self._child.send_signal(number)
        return self._child.wait(60)

    def create(self, **more: Any) -> str:
        answer = self.http.post("/api/queue/create", json=edit(**more))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def status(self, job_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/api/queue/status/{job_id}").raise_for_status().json())

    def wait(self, job_id: str, *states: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The job's status once it is one of these."""
        deadline = time.monotonic() + timeout_s
        while (status := self.status(job_id))["status"] not in states:
            assert time.monotonic() < deadline, (status, self.tail())
            time.sleep(0.02)
        return status

    def tail(self) -> str:
        return "\n".join(self.log_path.read_text().splitlines()[-30:])
