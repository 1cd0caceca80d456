"""Hash every model file that the lock names. Exit code 0 when all are right, else 1."""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from handler.errors import InvalidModelsLock, ModelCorrupt, ModelMissing
from handler.models import (
    ModelFile,
    ModelsLock,
    check_model,
    find_models,
    hash_model,
    read_models_lock,
    search_places,
)

_REDRAW_S = 0.1


class ProgressLine:
    """Bytes, percent and MB/s of one file: one line redrawn on a terminal, else every 10 %."""

    def __init__(self, model: ModelFile) -> None:
        self._label = f"{model.folder}/{model.file}"
        self._total = model.bytes
        self._terminal = sys.stdout.isatty()
        self._start = self._shown_at = time.monotonic()
        self._next_percent = 10

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        percent = done * 100 // self._total
        if self._terminal:
            if now - self._shown_at < _REDRAW_S and done < self._total:
                return
        elif percent < self._next_percent:
            return
        self._shown_at = now
        self._next_percent = percent - percent % 10 + 10
        speed = done / 1e6 / max(now - self._start, 1e-6)
        line = f"{self._label}  {done:,} of {self._total:,} bytes  {percent} %  {speed:,.0f} MB/s"
        sys.stdout.write(f"\r{line}\033[K" if self._terminal else f"{line}\n")
        sys.stdout.flush()

    def close(self) -> None:
        if self._terminal:
            sys.stdout.write("\n")


def verify(lock: ModelsLock, models_dir: Path) -> list[str]:
    """Every fault, at most one a file. Looks where the worker looks, the volume too."""
    faults = []
    sound: dict[ModelFile, Path] = {}
    for model in lock.models:
        try:
            [found] = find_models(replace(lock, models=(model,)), search_places(models_dir))
            check_model(model, found.path)
        except (ModelMissing, ModelCorrupt) as exc:
            faults.append(exc.message)
        else:
            sound[model] = found.path
    for model, path in sound.items():
        line = ProgressLine(model)
        try:
            hash_model(model, path, line)
        except ModelCorrupt as exc:
            faults.append(exc.message)
        finally:
            line.close()
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models-dir", type=Path, required=True, help="folder of unet, clip, …")
    parser.add_argument(
        "--lock",
        type=Path,
        default=Path(__file__).resolve().parent.parent / "models.lock",
        help="default: the repository's models.lock",
    )
    parser.add_argument("--profile", help="default: the lock's own")
    arguments = parser.parse_args()
    try:
        lock = read_models_lock(arguments.lock, arguments.profile)
    except InvalidModelsLock as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1
    faults = verify(lock, arguments.models_dir)
    for fault in faults:
        sys.stderr.write(f"FAULT {fault}\n")
    right = len(lock.models) - len(faults)
    sys.stdout.write(f"{right} of {len(lock.models)} model files are right\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
