"""The folder in which one worker keeps what its jobs need while they run."""

import contextlib
import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from handler.comfy_process import ComfyPaths
from handler.errors import InvalidSettings


@contextlib.contextmanager
def open_run_dir(run_dir: Path | None, models_dir: Path, comfy_dir: Path) -> Iterator[ComfyPaths]:
    """Make the folders and the file that tells ComfyUI where the models are.

    What an earlier worker left in `run_dir` is removed; without one, a temporary folder is made
    and removed. Raises InvalidSettings when it can't be written or another worker uses it.
    """
    with contextlib.ExitStack() as stack:
        if run_dir is None:
            run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qwen-worker-")))
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(run_dir))
            paths = ComfyPaths.under(run_dir.resolve())
            for folder in paths.folders:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            paths.model_paths.write_text(_model_paths(models_dir.absolute(), comfy_dir))
        except OSError as exc:
            raise InvalidSettings(
                f"WORKER_RUN_DIR {run_dir} can't be written: {exc.strerror}"
            ) from exc
        yield paths


@contextlib.contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    with (run_dir / "worker.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise InvalidSettings(
                f"WORKER_RUN_DIR {run_dir} is in use by another worker; give each its own"
            ) from exc
        yield


def _model_paths(models_dir: Path, comfy_dir: Path) -> str:
    """ComfyUI's extra_model_paths form; JSON is YAML. Every folder of models that upstream has."""
    kinds = sorted(folder.name for folder in (comfy_dir / "models").glob("*/"))
    section = {"base_path": str(models_dir), "is_default": True, **{kind: kind for kind in kinds}}
    return json.dumps({"worker": section}, indent=1)
