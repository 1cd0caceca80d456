"""Bring the locked files from the hub into a models folder, several at once.

Many processes may do so on one volume, and any may die at any time: see `model_download`.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from handler.errors import ModelCorrupt, ModelFetchFailed
from handler.hub.client import Hub
from handler.hub.download import FetchState, ModelDownload, Patience, Stopped
from handler.hub.partial_file import kept_bytes
from handler.models import (
    VOLUME,
    FoundModel,
    ModelFile,
    ModelsLock,
    Place,
    check_model,
    find_model,
    find_models,
)

# A file system that is filled to its last byte takes the other programs of the machine along.
_SPARE_BYTES = 64 * 1024 * 1024


def find_or_fetch(
    lock: ModelsLock, places: tuple[Place, ...], into: Path, hub: Hub, report: Callable[[str], None]
) -> tuple[FoundModel, ...]:
    """Where every model is, once those that are nowhere, or broken within `into`, were fetched.

    Raises ModelFetchFailed, ModelMissing.
    """
    if wanted := [model for model in lock.models if not _is_sound(model, places, into)]:
        fetch_models(wanted, into, hub, report=report)
    return find_models(lock, places)


def _is_sound(model: ModelFile, places: tuple[Place, ...], into: Path) -> bool:
    """A broken file elsewhere is not ours to replace: the check at boot names it."""
    found = find_model(model, places)
    if found is None:
        return False
    with contextlib.suppress(ModelCorrupt):
        check_model(model, found.path)
        return True
    return not found.path.is_relative_to(into)


def fetch_target(models_dir: Path, volume: Path = VOLUME) -> Path:
    """Where a worker puts what it fetches: onto the volume if there is one, for those to come."""
    return volume / "models" if volume.is_dir() else models_dir


def fetch_models(
    models: Sequence[ModelFile],
    into: Path,
    hub: Hub,
    *,
    report: Callable[[str], None],
    workers: int = 4,
    patience: Patience | None = None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> None:
    """Every model is at `into/folder/file` afterwards, its SHA-256 the locked one.

    `workers` files are fetched at once; `report` gets lines for people, from this thread and
    others. Raises ModelFetchFailed that names every file that failed; what was fetched by then
    stays, and the next call goes on from there.
    """
    state = FetchState(hub, report, patience or Patience())
    downloads = [ModelDownload(model, _place(model, into), state) for model in models]
    missing = [
        model for model, download in zip(models, downloads, strict=True) if not download.has_size
    ]
    _check_space(missing, into, free_bytes)
    with ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool:
        try:
            # What the hub refuses shows before the first of 31 GB.
            _join([pool.submit(download.ask_hub) for download in downloads], state)
            _join([pool.submit(download.run) for download in downloads], state)
        finally:
            # Also on SIGTERM and Ctrl-C: leaving the pool waits for its threads.
            state.stop.set()


def _place(model: ModelFile, into: Path) -> Path:
    """Where it is under either name of its folder, else where the lock wants it."""
    paths = [into / folder / model.file for folder in model.folders]
    return next((path for path in paths if path.is_file()), paths[0])


def _check_space(missing: list[ModelFile], into: Path, free_bytes: Callable[[Path], int]) -> None:
    """Raises ModelFetchFailed if what is missing does not fit, less what earlier tries left.

    A network volume may report the whole cluster's space and not its own quota: then the disk is
    found full only when it is.
    """
    needed = sum(model.bytes - kept_bytes(model, _place(model, into).parent) for model in missing)
    if not needed:
        return
    folder = next(path for path in (into, *into.absolute().parents) if path.is_dir())
    free = free_bytes(folder)
    if free < needed + _SPARE_BYTES:
        raise ModelFetchFailed(
            f"{into} has too little space: {needed:,} bytes of {len(missing)} files are still to "
            f"be fetched, and {free:,} are free",
            kind="disk_full",
            needed_bytes=needed,
            free_bytes=free,
        )


def _join(futures: Iterable[Future[None]], state: FetchState) -> None:
    """Wait for all, with progress; after the first fault the others stop at their next byte.

    Raises ModelFetchFailed.
    """
    pending = futures = list(futures)
    meter = _Meter(state)
    while pending:
        finished, left = wait(pending, state.patience.report_s, FIRST_EXCEPTION)
        pending = list(left)
        if any(future.exception() for future in finished):
            state.stop.set()
        if pending:
            meter.show()
    faults = [future.exception() for future in futures]
    _raise_all([fault for fault in faults if fault and not isinstance(fault, Stopped)])


def _raise_all(faults: list[BaseException]) -> None:
    """Raises ModelFetchFailed for all of them, or what is no fault of a fetch as it is."""
    known = [fault for fault in faults if isinstance(fault, ModelFetchFailed)]
    for fault in faults:
        if fault not in known:
            raise fault
    if len(known) == 1:
        raise known[0]
    if known:
        raise ModelFetchFailed(
            "; ".join(fault.message for fault in known),
            kind=known[0].details["kind"],
            faults=[fault.details for fault in known],
        ) from known[0]


class _Meter:
    """One line for all files: bytes, percent, and the speed since the line before."""

    def __init__(self, state: FetchState) -> None:
        self._state = state
        self._before: tuple[float, int] | None = None

    def show(self) -> None:
        done = dict(self._state.done)
        total, here, now = sum(model.bytes for model in done), sum(done.values()), time.monotonic()
        before, self._before = self._before, (now, here)
        if not done or (before and before[1] == here):
            return
        line = f"{here:,} of {total:,} bytes, {here * 100 // total} %"
        # The first line has none: what earlier tries left came at no speed.
        if before:
            line += f", {max(0, here - before[1]) / 1e6 / max(now - before[0], 1e-6):,.0f} MB/s"
        self._state.report(line)
