"""The worker as RunPod starts it, on the weights that `make run` uses: what `make worker` does.

Arguments go to `python -m handler`: `make worker ARGS=--rp_serve_api` serves the SDK's local API.
"""

import os
import sys
from pathlib import Path

from handler.errors import WorkerError
from handler.local_weights import choose_weights

PROJECT_DIR = Path(__file__).resolve().parent.parent


def main() -> int:
    """Becomes the worker; 1 when it can't."""
    arguments = sys.argv[1:]
    if "RUNPOD_WEBHOOK_GET_JOB" not in os.environ and not arguments:
        print(
            "run_worker: RUNPOD_WEBHOOK_GET_JOB is not set, so there is nowhere to take jobs from. "
            "Set RunPod's variables, or serve HTTP here: make worker ARGS=--rp_serve_api",
            file=sys.stderr,
        )
        return 1
    try:
        weights = choose_weights(PROJECT_DIR, os.environ)
    except WorkerError as error:
        print(f"run_worker: {error.code}: {error.message}", file=sys.stderr)
        return 1
    if weights.is_scale:
        print(f"Scale models, since {weights.reason}: pictures will be noise.", file=sys.stderr)
    command = [sys.executable, "-m", "handler", *arguments]
    os.execve(sys.executable, command, weights.environment)
    raise AssertionError("execve returns only by raising")


if __name__ == "__main__":
    sys.exit(main())
