"""The folder in which one worker keeps what its jobs need while they run."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from handler.comfy.process import ComfyPaths
from handler.errors import InvalidSettings
from handler.models import FoundModel, Place, link_models, model_folders

_ALL_WORKERS = "qwen-worker"
_LOCK = "worker.lock"
# A worker that lives says so in its lock's time: on a network volume other machines can't see that
# the file is locked.
_ALIVE_EVERY_S = 60.0
_GONE_AFTER_S = 3600.0


@contextlib.contextmanager
def open_run_dir(
    run_dir: Path | None,
    found: Iterable[FoundModel],
    places: Iterable[Place],
    comfy_dir: Path,
    nodes_dir: Path | None = None,
) -> Iterator[ComfyPaths]:
    """Make the folders and the file that tells ComfyUI where the models and our nodes are.

    All of it is in a folder of this worker's own below `run_dir`, of which any number can share
    one; it is removed at the end, and so are those of workers that were killed. Without `run_dir`
    it is below the system's temporary folder. Raises InvalidSettings when it can't be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            all_workers = _folder_of_all(run_dir)
            all_workers.mkdir(parents=True, exist_ok=True)
            own_dir = Path(tempfile.mkdtemp(dir=all_workers, prefix="worker-")).resolve()
            stack.callback(shutil.rmtree, own_dir, ignore_errors=True)
            lock = own_dir / _LOCK
            stack.enter_context(_locked(lock))
            _remove_dead(all_workers, now_s=lock.stat().st_mtime)
            stack.enter_context(_alive(lock))
            paths = ComfyPaths.under(own_dir)
            for folder in paths.folders:
                folder.mkdir()
            link_models(found, paths.models_dir)
            kinds = [folder.name for folder in (comfy_dir / "models").glob("*/")]
            sections = model_folders(paths.models_dir, places, kinds)
            if nodes_dir is not None:
                sections["worker nodes"] = {"custom_nodes": str(nodes_dir.absolute())}
            # ComfyUI reads YAML, of which JSON is a part.
            paths.model_paths.write_text(json.dumps(sections, indent=1))
        except OSError as exc:
            place = "the temporary folder" if run_dir is None else f"WORKER_RUN_DIR {run_dir}"
            hint = "; set WORKER_RUN_DIR to a folder that can" if run_dir is None else ""
            raise InvalidSettings(f"{place} can't be written: {exc.strerror}{hint}") from exc
        yield paths


def _folder_of_all(run_dir: Path | None) -> Path:
    """Raises OSError."""
    if run_dir is not None:
        return run_dir / _ALL_WORKERS
    # Another user's folder of that name could not be written.
    return Path(tempfile.gettempdir(), f"{_ALL_WORKERS}-{os.getuid()}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        lock.write(socket.gethostname())
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def _alive(lock: Path) -> Iterator[None]:
    """Renew the lock's time until the end of the context."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_ALIVE_EVERY_S):
            with contextlib.suppress(OSError):
                os.utime(lock)

    threading.Thread(target=renew, name="run-dir", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _remove_dead(all_workers: Path, now_s: float) -> None:
    """Folders of workers that were killed; `now_s` is the time by the file system's own clock. A
    lock that can be had says that only of workers on this machine."""
    for folder in all_workers.glob("worker-*/"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_here = lock.read() == socket.gethostname()
            if is_here or now_s - os.fstat(lock.fileno()).st_mtime > _GONE_AFTER_S:
                shutil.rmtree(folder, ignore_errors=True)
