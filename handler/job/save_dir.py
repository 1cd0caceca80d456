"""Keeps a copy of files and answers on disk, for runs on one's own machine."""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NOT_IN_FOLDER_NAMES = re.compile(r"[^A-Za-z0-9._-]")


def save_answer(save_dir: Path, job_id: str, answer: Mapping[str, Any]) -> None:
    """Write `SAVE_DIR/JOB_ID/`: each inline file under its own name, and `answer.json`, in which a
    file's data gives way to its name."""
    folder = save_dir / (_NOT_IN_FOLDER_NAMES.sub("_", job_id).lstrip(".") or "job")
    folder.mkdir(parents=True, exist_ok=True)
    names = {"answer.json"}
    kept = {key: value for key, value in answer.items() if key != "image_base64"}
    for key in ("images", "files"):
        if key in answer:
            kept[key] = [_save(folder, entry, names) for entry in answer[key]]
    (folder / "answer.json").write_text(json.dumps(kept, indent=2) + "\n")


def _save(folder: Path, entry: Mapping[str, Any], names: set[str]) -> Mapping[str, Any]:
    """The entry as it is kept. `names` are those that are taken."""
    if entry["type"] != "base64":
        return entry
    name = Path(entry["filename"]).name
    while name in names:
        name = f"{len(names)}-{name}"
    names.add(name)
    (folder / name).write_bytes(base64.b64decode(entry["data"]))
    return {**entry, "type": "file", "data": name}
