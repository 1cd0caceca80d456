"""The folder in which one worker keeps what its jobs need while they run."""

import contextlib
import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from handler.comfy.process import ComfyPaths
from handler.errors import InvalidSettings
from handler.models import FoundModel, Place, link_models, model_folders

_OWN_FOLDER = "qwen-worker"


@contextlib.contextmanager
def open_run_dir(
    run_dir: Path | None,
    found: Iterable[FoundModel],
    places: Iterable[Place],
    comfy_dir: Path,
    nodes_dir: Path | None = None,
) -> Iterator[ComfyPaths]:
    """Make the folders and the file that tells ComfyUI where the models and our nodes are.

    All of it is in one folder of our own in `run_dir`, so that nothing else there is touched; what
    an earlier worker left in it is removed. Without `run_dir` a temporary folder is made, and
    removed at the end. Raises InvalidSettings when it can't be written or another worker uses it.
    """
    with contextlib.ExitStack() as stack:
        if run_dir is None:
            run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qwen-worker-")))
        try:
            own_dir = run_dir / _OWN_FOLDER
            own_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(own_dir))
            paths = ComfyPaths.under(own_dir.resolve())
            for folder in paths.folders:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            link_models(found, paths.models_dir)
            kinds = [folder.name for folder in (comfy_dir / "models").glob("*/")]
            sections = model_folders(paths.models_dir, places, kinds)
            if nodes_dir is not None:
                sections["worker nodes"] = {"custom_nodes": str(nodes_dir.absolute())}
            # ComfyUI reads YAML, of which JSON is a part.
            paths.model_paths.write_text(json.dumps(sections, indent=1))
        except OSError as exc:
            raise InvalidSettings(
                f"WORKER_RUN_DIR {run_dir} can't be written: {exc.strerror}"
            ) from exc
        yield paths


@contextlib.contextmanager
def _locked(own_dir: Path) -> Iterator[None]:
    with (own_dir / "worker.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise InvalidSettings(
                f"WORKER_RUN_DIR {own_dir.parent} is in use by another worker; give each its own"
            ) from exc
        yield
