"""The real worker as a child process of a test, and the pictures and workflows sent to it."""

import base64
import contextlib
import io
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil
from PIL import Image

from handler.local_weights import choose_weights

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
_NODES = PROJECT_DIR / "tests" / "integration" / "nodes.yaml"
EXAMPLE = json.loads((PROJECT_DIR / "examples" / "qwen_image_edit_2509.json").read_text())
PORTRAIT = PROJECT_DIR / "examples" / "portrait.jpg"


class WorkerProcess:
    """`python -m handler` on the scale models, with the fault nodes loaded."""

    def __init__(self, work_dir: Path, env: Mapping[str, str]) -> None:
        self.log_path = work_dir / "worker.log"
        self.run_dir = work_dir / "run"
        weights = choose_weights(PROJECT_DIR, local_environment())
        nodes = shlex.join(["--extra-model-paths-config", str(_NODES)])
        self.env = {
            **weights.environment,
            "COMFY_ARGS": f"{weights.environment['COMFY_ARGS']} {nodes}",
            "WORKER_RUN_DIR": str(self.run_dir),
            **env,
        }
        # A file, since the SDK's heartbeat would hold a pipe open.
        with self.log_path.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "handler"],
                cwd=work_dir, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def logs(self) -> list[dict[str, Any]]:
        # The last line may be on its way.
        lines = self.log_path.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for_log(self, event: str, timeout_s: float = 120, **fields: Any) -> dict[str, Any]:
        """The latest line of that event with those fields."""

        def find() -> dict[str, Any] | None:
            assert self.child.poll() is None or event in self.log_path.read_text(), self.tail()
            found = [
                entry for entry in self.logs()
                if entry["event"] == event and entry.items() >= fields.items()
            ]  # fmt: skip
            return found[-1] if found else None

        return dict(wait_until(find, f"log event {event!r} {fields}", timeout_s, self.tail))

    def comfy_pid(self) -> int:
        return int(self.wait_for_log("comfyui started")["pid"])

    def ask_comfy(self, path: str, body: Any = None) -> Any:
        """ComfyUI's answer to a GET, or to a POST of `body`."""
        url = f"http://127.0.0.1:{self.env['COMFY_PORT']}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def family(self) -> list[psutil.Process]:
        """The worker's process and all that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            worker = psutil.Process(self.child.pid)
            return [worker, *worker.children(recursive=True)]
        return []

    def checkers(self) -> list[psutil.Process]:
        """Those that check pictures: as many as there were at a time, until one is ended."""
        return [one for one in self.family() if "handler.check_pictures" in one.cmdline()]

    def job_files(self) -> list[Path]:
        """What the jobs have left on disk."""
        workers = self.run_dir / "qwen-worker"
        roots = [at for name in ("input", "output", "temp") for at in workers.glob(f"*/{name}")]
        # ComfyUI makes these two folders itself.
        own = {"temp", "3d"}
        return [path for root in roots for path in root.rglob("*") if path.name not in own]

    def tail(self) -> str:
        return "\n".join(self.log_path.read_text().splitlines()[-40:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """SIGKILL to whatever still runs of it."""
        family = self.family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        psutil.wait_procs(family, timeout=10)


def local_environment() -> dict[str, str]:
    """This process's, without settings that the developer may have, and with a port of its own."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WORKER_", "COMFY_", "BUCKET_", "RUNPOD_"))
    }
    return clean | {"COMFY_PORT": str(free_port()), "PYTHONPATH": str(PROJECT_DIR)}


def wait_until(
    look: Callable[[], Any], what: str, timeout_s: float, more: Callable[[], str] = str
) -> Any:
    """The first truthy value of `look`."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s\n{more()}")
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def photo(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))


def as_base64(picture: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(data: str) -> bytes:
    """Of a base64 picture."""
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return picture.convert("RGB").tobytes()


def shows_inverse(data: str, picture: Image.Image) -> bool:
    """Whether the base64 picture is `picture` after ImageInvert. ComfyUI computes in floats and
    cuts off the rest, which may cost a value 1 of 255."""
    sent, shown = picture.tobytes(), pixels(data)
    return len(sent) == len(shown) and all(
        abs(255 - one - other) <= 1 for one, other in zip(sent, shown, strict=True)
    )


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def invert_workflow(**between: Any) -> dict[str, Any]:
    """LoadImage -> [one node more, class_type and inputs] -> ImageInvert -> SaveImage."""
    workflow = {
        "1": node("LoadImage", image="photo.png"),
        "3": node("ImageInvert", image=["1", 0]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="result"),
    }
    if between:
        workflow["2"] = node(between.pop("class_type"), image=["1", 0], **between)
        workflow["3"]["inputs"]["image"] = ["2", 0]
    return workflow


def job_input(workflow: Any, *pictures: Image.Image, **more: Any) -> dict[str, Any]:
    """With one picture, or none: the workflows here all call it photo.png."""
    images = [{"name": "photo.png", "image": as_base64(picture)} for picture in pictures]
    return {"workflow": workflow, "images": images, **more}
