"""A note beside a model file that its SHA-256 was right, so that 31 GB are not read at each boot.

It holds for the file as it was then: a file that was written since has another time. What the disk
itself damages shows in `make verify-models`, which reads no notes.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from handler.models import ModelFile


def has_stamp(model: ModelFile, path: Path) -> bool:
    try:
        return bool(json.loads(_stamp(path).read_text()) == _content(model, path))
    except (OSError, ValueError):
        return False


def write_stamp(model: ModelFile, path: Path) -> None:
    """Nothing where the folder is read-only: the file is then hashed again the next time."""
    with contextlib.suppress(OSError):
        _stamp(path).write_text(json.dumps(_content(model, path)))


def _stamp(path: Path) -> Path:
    return path.with_name(f".{path.name}.verified")


def _content(model: ModelFile, path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"sha256": model.sha256, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
