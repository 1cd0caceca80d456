"""Edits the example photo through the worker, in the RunPod SDK's local mode: what `make run` does.

Starts `python -m handler` on a test input, shows its progress, and tells where the picture is.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edit_job import EXAMPLES, PROJECT_DIR, make_job, progress, worker_environment

from handler.errors import WorkerError
from handler.local_weights import LocalWeights, choose_weights


def main() -> int:
    """The exit code: 0 with a result, 1 without."""
    arguments = _parse_arguments()
    if not arguments.photo.is_file():
        print(f"run_edit: there is no photo {arguments.photo}", file=sys.stderr)
        return 1
    try:
        weights = choose_weights(PROJECT_DIR, os.environ)
    except WorkerError as error:
        print(f"run_edit: {error.code}: {error.message}", file=sys.stderr)
        return 1
    if weights.is_scale:
        print(f"Weights: scale models, since {weights.reason}. The picture will be noise.")
    else:
        print(f"Weights: {weights.reason}.")
    job_id = time.strftime("edit-%Y%m%d-%H%M%S")
    job = make_job(job_id, arguments.photo, arguments.prompt, arguments.seed)
    started = time.monotonic()
    if not _run_worker(job, weights, arguments.out):
        return 1
    _report(arguments.out / job_id, weights, time.monotonic() - started)
    return 0


def _run_worker(job: dict[str, Any], weights: LocalWeights, out: Path) -> bool:
    """Run the worker on the job; True when it ended well. Its log becomes lines of progress."""
    with tempfile.TemporaryDirectory(prefix="qwen-run-") as folder:
        # The SDK reads ./test_input.json: a picture is too large for a command line.
        (Path(folder) / "test_input.json").write_text(json.dumps(job))
        worker = subprocess.Popen(
            [sys.executable, "-m", "handler"],
            cwd=folder,
            env=worker_environment(weights.environment) | {"WORKER_SAVE_DIR": str(out.absolute())},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        started = time.monotonic()
        try:
            for line in worker.stdout:
                if text := progress(line):
                    print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)
        finally:
            worker.terminate()
            # Reads the rest: a worker that can't write its last lines would not end.
            worker.communicate()
    exit_code = worker.returncode
    if exit_code != 0:
        print(f"run_edit: the worker ended with exit code {exit_code}", file=sys.stderr)
    return exit_code == 0


def _report(folder: Path, weights: LocalWeights, seconds: float) -> None:
    answer = json.loads((folder / "answer.json").read_text())
    for image in answer["images"]:
        print(
            f"\nPicture: {_shown(folder / image['data'])}\n"
            f"Size:    {image['width']} x {image['height']} pixels, {image['bytes']} bytes"
        )
    for file in answer.get("files", ()):
        print(f"\nFile:    {_shown(folder / file['data'])} ({file['kind']}, {file['bytes']} bytes)")
    for text in answer.get("texts", ()):
        print(f"\nText:    {text['text']}")
    phases = ", ".join(f"{phase} {ms / 1000:.2f} s" for phase, ms in answer["timings"].items())
    print(f"Phases:  {phases}\nIn all:  {seconds:.1f} s, with the start of ComfyUI")
    if weights.is_scale:
        print(
            f"Weights: SCALE MODELS ({weights.reason}): every node is the real one, the picture is "
            "noise.\n         With a CUDA GPU and the four files of models.lock in "
            "WORKER_MODELS_DIR the same command edits the photo."
        )


def _shown(path: Path) -> Path:
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, default=EXAMPLES / "portrait.jpg")
    parser.add_argument("--prompt", help="default: the example workflow's")
    parser.add_argument("--seed", type=int, help="default: the example workflow's")
    parser.add_argument("--out", type=Path, default=PROJECT_DIR / "out", help="default: out/")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
