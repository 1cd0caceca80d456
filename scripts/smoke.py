"""One edit on the real weights and the GPU of this machine: what `make smoke` does.

Edits examples/portrait.jpg three times in one worker, with a seed, another, and the first again;
checks what can be checked without an eye; measures by three more edits how well they line up with
the photo; shows the time of each phase and the memory that the card needed. Pictures and a report
go to out/smoke/: look at side-by-side.png. The weights of models.lock are looked for in
WORKER_MODELS_DIR and on a volume, and fetched (31 GB) if missing.

Exit codes: 0 all checks passed; 1 one failed, or there was no picture; 2 wrong arguments;
3 this machine has no GPU.
"""

import argparse
import base64
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edit_job import EXAMPLES, PROJECT_DIR, make_job
from image_engines import EngineError, Mount
from line_up import LineUp, line_up
from picture_checks import Finding, beside, check_picture, check_repeat, decode
from PIL import Image
from served_worker import ServedWorker, WorkerFailed, image_worker, local_worker

from handler.errors import WorkerError
from handler.hub import Hub, find_or_fetch
from handler.local_weights import choose_weights
from handler.machine import has_gpu, read_gpus
from handler.models import VOLUME, FoundModel, read_models_lock, search_places

NO_GPU = 3
_PHOTO = EXAMPLES / "portrait.jpg"
# FluxKontextImageScale gives a square picture this size.
_SIZE = (1024, 1024)
_SEED = 2509
_IMAGE_MODELS = "/workspace/ComfyUI/models"
# What an operator may set for the worker in the image.
_PASSED_ON = ("COMFY_ARGS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "WORKER_MODELS_PROFILE")


def main() -> int:
    """The exit code, as the docstring above says."""
    arguments = parse_arguments()
    if not (has_gpu() or arguments.scale_models):
        print(
            "smoke: this machine has no GPU that the driver shows, so nothing was run (make run "
            "edits the photo without one, on scale models)",
            file=sys.stderr,
        )
        return NO_GPU
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {text}", flush=True)

    try:
        with open_worker(arguments, say) as worker, PeakMemory() as memory:
            answers = [worker.edit(make_job("smoke", _PHOTO, None, seed)) for seed in
                       (_SEED, _SEED + 1, _SEED)]  # fmt: skip
            lined_up = line_up(_PHOTO, worker.edit)
    except WorkerError as error:
        print(f"smoke: {error.code}: {error.message}", file=sys.stderr)
        return 1
    except (EngineError, WorkerFailed, OSError) as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 1
    pictures = [base64.b64decode(answer["images"][0]["data"]) for answer in answers]
    findings = [*check(pictures), lined_up.finding]
    save(arguments.out, pictures, answers, findings, lined_up, memory)
    tell(answers, findings, lined_up, memory, arguments.out)
    return 0 if all(finding.is_right for finding in findings) else 1


def open_worker(
    arguments: argparse.Namespace, say: Any
) -> contextlib.AbstractContextManager[ServedWorker]:
    """Raises WorkerError when the weights are neither found nor fetched."""
    environ = {name: value for name, value in os.environ.items() if name != "WORKER_MODELS_DIR"}
    if arguments.scale_models:
        return local_worker(choose_weights(PROJECT_DIR, environ).environment, say)
    found = find_weights(arguments.models_dir, say)
    for at in found:
        say(f"{at.model.file}: {at.path}")
    if arguments.image is None:
        return local_worker(environ | {"WORKER_MODELS_DIR": str(arguments.models_dir)}, say)
    passed = {name: environ[name] for name in _PASSED_ON if environ.get(name)}
    return image_worker(arguments.image, passed, mounts(arguments.models_dir, found), say)


def find_weights(models_dir: Path, say: Any) -> tuple[FoundModel, ...]:
    """Where the worker would look too; what is missing is fetched into `models_dir`."""
    profile = os.environ.get("WORKER_MODELS_PROFILE") or None
    lock = read_models_lock(PROJECT_DIR / "models.lock", profile)
    hub = Hub(os.environ.get("HF_ENDPOINT") or None, os.environ.get("HF_TOKEN") or None)
    return find_or_fetch(lock, search_places(models_dir), models_dir, hub, say)


def mounts(models_dir: Path, found: Sequence[FoundModel]) -> list[Mount]:
    """The folders that hold the weights, at the places where the worker in the image looks."""
    places = ((models_dir, _IMAGE_MODELS), (VOLUME, str(VOLUME)))
    return [
        Mount(folder.absolute(), target)
        for folder, target in places
        if any(at.path.is_relative_to(folder) for at in found)
    ]


def check(pictures: Sequence[bytes]) -> list[Finding]:
    with Image.open(_PHOTO) as source:
        findings = check_picture(pictures[0], _SIZE, source)
    with contextlib.suppress(OSError):
        first, other, again = map(decode, pictures)
        findings += check_repeat(first, again, other)
    return findings


class PeakMemory:
    """The most memory that all cards together held meanwhile, less what they held before: of every
    program on them, so leave the card alone. None of it is known without NVIDIA's driver."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._poll = threading.Thread(target=self._look, daemon=True)
        self._before = self._now()
        self._most = self._before

    @property
    def peak_bytes(self) -> int:
        return self._most - self._before

    def __enter__(self) -> "PeakMemory":
        self._poll.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._poll.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        return sum(gpu.used_bytes for gpu in read_gpus())


def save(
    out: Path,
    pictures: Sequence[bytes],
    answers: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
    lined_up: LineUp,
    memory: PeakMemory,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, data in zip(("output", "other-seed", "again"), pictures, strict=True):
        (out / f"{name}.png").write_bytes(data)
    for name, data in lined_up.pictures.items():
        (out / f"{name}.png").write_bytes(data)
    with contextlib.suppress(OSError), Image.open(_PHOTO) as source:
        beside(source.convert("RGB"), decode(pictures[0])).save(out / "side-by-side.png")
    report = {
        "cards": [gpu.name for gpu in read_gpus()],
        "peak_bytes": memory.peak_bytes,
        "timings": [answer["timings"] for answer in answers],
        "line_up": lined_up.figures(),
        "checks": {entry.what: {"ok": entry.is_right, "seen": entry.seen} for entry in findings},
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def tell(
    answers: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
    lined_up: LineUp,
    memory: PeakMemory,
    out: Path,
) -> None:
    print()
    for finding in findings:
        print(f"{'ok  ' if finding.is_right else 'FAIL'}  {finding.what}: {finding.seen}")
    print()
    for line in lined_up.lines():
        print(line)
    print()
    runs = ("first edit, weights read", "another seed, weights there", "first seed again")
    for run, answer in zip(runs, answers, strict=True):
        phases = ", ".join(f"{phase} {ms / 1000:.2f} s" for phase, ms in answer["timings"].items())
        print(f"{run}: {phases}")
    cards = ", ".join(f"{gpu.name}, {gpu.memory_bytes / 1e9:.1f} GB" for gpu in read_gpus())
    if cards:
        print(f"GPU memory: {memory.peak_bytes / 1e9:.1f} GB at the most, on {cards}")
    failed = sum(not finding.is_right for finding in findings)
    print(f"{len(findings) - failed} checks passed, {failed} failed; look at {out}/")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", help="run this image with Docker; default: this checkout")
    parser.add_argument(
        "--models-dir", type=Path, metavar="DIR",
        default=Path(os.environ.get("WORKER_MODELS_DIR") or PROJECT_DIR / "build" / "models"),
        help="where the weights are or go; default: WORKER_MODELS_DIR, else build/models",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=PROJECT_DIR / "out" / "smoke", help="default: out/smoke/"
    )
    parser.add_argument(
        "--scale-models", action="store_true",
        help="try this command itself, without a GPU: the picture is noise and fails its checks",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
