"""The whole product on this machine: gateway and one worker, until told to end. `make serve`.

Variables of both go to both. However this process ends, nothing of the two stays behind.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from gateway.cli import worker_environment
from gateway.errors import GatewayError
from gateway.kept import worker_key
from gateway.settings import Settings, read_settings
from handler.errors import WorkerError
from handler.local_weights import choose_weights

PROJECT_DIR = Path(__file__).resolve().parent.parent
_PR_SET_PDEATHSIG = 1
_START_S = 30
# A job in hand gets 5 s to end well, its result 5 s to be sent, ComfyUI 3 s to stop.
_WORKER_END_S = 20
_GATEWAY_END_S = 25
_AGAIN_S = 5


class Told(Exception):
    """To end, by a signal."""


def main() -> int:
    """The exit code: 0 when it was told to end, 1 when something could not start or has failed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if "MAKELEVEL" in os.environ:
        _end_with_parent(os.getppid())
    try:
        settings = read_settings()
        with _gateway(settings) as gateway:
            url = _wait(gateway, settings)
            worker = _worker_environment(settings, url)
            _say(f"\nThe gateway serves {url} (its API: {url}/docs). Ctrl-C ends it.\n")
            return _run(gateway, worker)
    except Told:
        return 0
    except (GatewayError, WorkerError) as error:
        print(f"serve: {error.code}: {error.message}", file=sys.stderr)
        return 1


def _run(gateway: subprocess.Popen[bytes], environment: Mapping[str, str] | None) -> int:
    """Until the gateway ends or we are told to. A worker that ends is started again; None is for
    the demo, which has none."""
    while environment is None and gateway.poll() is None:
        time.sleep(0.2)
    while environment is not None:
        with _child([sys.executable, "-m", "handler"], environment, _WORKER_END_S) as worker:
            while worker.poll() is None and gateway.poll() is None:
                time.sleep(0.2)
        if gateway.poll() is not None:
            break
        _say(f"The worker has ended with code {worker.returncode}; it starts again.")
        time.sleep(_AGAIN_S)
    _say(f"The gateway has ended with code {gateway.returncode}.")
    return 1


def _gateway(settings: Settings) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gateway", "serve"]
    return _child(command, {**os.environ, "PYTHONPATH": str(PROJECT_DIR)}, _GATEWAY_END_S)


def _wait(gateway: subprocess.Popen[bytes], settings: Settings) -> str:
    """Until it answers; its address on this machine."""
    host, port = settings.listen
    url = f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{port}"
    # Not by a proxy that the environment may name.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and gateway.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError), direct.open(f"{url}/health"):
            return url
        time.sleep(0.1)
    raise SystemExit(f"serve: the gateway does not answer on {url}; its log is above")


def _worker_environment(settings: Settings, url: str) -> dict[str, str] | None:
    """On real weights where there are a GPU and all of them, else on scale models."""
    if settings.gateway_route == "demo":
        _say("This is the demo: it draws over pictures instead of editing them.")
        return None
    weights = choose_weights(PROJECT_DIR, os.environ)
    if weights.is_scale:
        _say(f"Scale models, since {weights.reason}: pictures will be noise.")
    ours = worker_environment(url, worker_key(settings), "this-machine", settings.gateway_lease_s)
    given = {
        name: value
        for name, value in weights.environment.items()
        # The gateway's secrets are not the worker's.
        if not name.startswith(("GATEWAY_", "RUNPOD_"))
    }
    return {**ours, **given, "PYTHONPATH": str(PROJECT_DIR)}


@contextlib.contextmanager
def _child(
    command: list[str], environment: Mapping[str, str], seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Ends with this block: well within `seconds`, else at once."""
    parent = os.getpid()
    child = subprocess.Popen(
        command, cwd=PROJECT_DIR, env=environment, stdin=subprocess.DEVNULL,
        start_new_session=True, preexec_fn=lambda: _end_with_parent(parent),
    )  # fmt: skip
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            _say(f"{command[2]} did not end within {seconds} s")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _end_with_parent(parent: int) -> None:
    """SIGTERM to this process when its parent dies, however that happens. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def _leave(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        # A second one must not cut off the ending of what the first one ends.
        signal.signal(number, signal.SIG_IGN)
    raise Told


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
