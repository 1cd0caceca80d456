"""A worker that serves the SDK's local API on this machine, as a process or in its image."""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edit_job import progress, worker_environment
from image_engines import Docker, EngineError, Mount, has_docker

BOOT_S = 600
JOB_S = 1800
_HOST = "127.0.0.1"
# The image's own; the entry point of the image comes before it.
_IMAGE_PYTHON = "/opt/handler/bin/python"


class WorkerFailed(Exception):
    """The worker did not start, or did not answer; with the end of its log."""


class _Running(Protocol):
    def exit_code(self) -> int | None: ...
    def log(self) -> str: ...


@dataclass(frozen=True)
class ServedWorker:
    port: int
    _running: _Running

    def edit(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The job's output. Raises WorkerFailed when it has none."""
        body = json.dumps({"input": job["input"]}).encode()
        request = urllib.request.Request(
            f"http://{_HOST}:{self.port}/runsync", body, {"Content-Type": "application/json"}
        )
        try:
            # Not by a proxy that the environment may name.
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(request, timeout=JOB_S) as response:
                answer: dict[str, Any] = json.load(response)
        except (OSError, ValueError) as exc:
            raise self._failed(f"no answer to the job: {exc}") from exc
        if not isinstance(answer.get("output"), dict) or answer.get("error"):
            raise self._failed(str(answer.get("error") or "the answer has no output"))
        return dict(answer["output"])

    def wait(self) -> None:
        """Until it serves: the SDK's server starts once the boot's checks have passed."""
        started = time.monotonic()
        while not self._is_listening():
            code = self._running.exit_code()
            if code is not None:
                raise self._failed(f"the worker ended with exit code {code} before it served")
            if time.monotonic() - started > BOOT_S:
                raise self._failed(f"the worker did not serve within {BOOT_S} s")
            time.sleep(0.2)

    def log(self) -> str:
        return self._running.log()

    def _is_listening(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((_HOST, self.port), 1):
            return True
        return False

    def _failed(self, what: str) -> WorkerFailed:
        return WorkerFailed(f"{what}\n{self.log()}")


@contextlib.contextmanager
def local_worker(
    environment: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[ServedWorker]:
    """`python -m handler` of this checkout. `say` gets its progress."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="qwen-smoke-") as folder:
        child = subprocess.Popen(
            [sys.executable, "-m", "handler", *_serve_arguments(port)],
            cwd=folder, env=worker_environment(environment),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running = _LocalProcess(child, say)
        try:
            worker = ServedWorker(port, running)
            worker.wait()
            yield worker
        finally:
            child.terminate()
            child.wait()
            running.reader.join()


@contextlib.contextmanager
def image_worker(
    image: str, environment: Mapping[str, str], mounts: Sequence[Mount], say: Callable[[str], None]
) -> Iterator[ServedWorker]:
    """The image, with this machine's GPUs. Raises EngineError when Docker can't run it."""
    if not has_docker():
        raise EngineError("no Docker engine answers; without IMAGE, this checkout is run instead")
    port = free_port()
    engine = Docker([], keep=True, image=image, run_arguments=["--gpus", "all"])
    # The container is on the host's network, so ComfyUI's port is one of the host's.
    environment = {"COMFY_PORT": str(free_port()), **environment}
    argv = [_IMAGE_PYTHON, "-m", "handler", *_serve_arguments(port)]
    with engine.start(environment, mounts, argv) as container:
        worker = ServedWorker(port, container)
        worker.wait()
        for line in worker.log().splitlines():
            if text := progress(line):
                say(text)
        yield worker


class _LocalProcess:
    """Reads the process's log as it comes: a full pipe would stop it."""

    def __init__(self, child: subprocess.Popen[str], say: Callable[[str], None]) -> None:
        self._child = child
        self._tail: deque[str] = deque(maxlen=40)
        self.reader = threading.Thread(target=self._read, args=(say,), daemon=True)
        self.reader.start()

    def exit_code(self) -> int | None:
        return self._child.poll()

    def log(self) -> str:
        return "\n".join(self._tail)

    def _read(self, say: Callable[[str], None]) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if text := progress(line):
                self._tail.append(text)
                say(text)


def _serve_arguments(port: int) -> list[str]:
    return ["--rp_serve_api", "--rp_api_host", _HOST, "--rp_api_port", str(port)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
