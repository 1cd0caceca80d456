"""Keeps a copy of pictures and answers on disk, for runs on one's own machine."""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NOT_IN_FOLDER_NAMES = re.compile(r"[^A-Za-z0-9._-]")


def save_answer(save_dir: Path, job_id: str, answer: Mapping[str, Any]) -> None:
    """Write `SAVE_DIR/JOB_ID/`: each inline picture under its own name, and `answer.json`, in
    which a picture's data gives way to the name of its file."""
    folder = save_dir / (_NOT_IN_FOLDER_NAMES.sub("_", job_id).lstrip(".") or "job")
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    names: set[str] = set()
    for index, entry in enumerate(answer["images"]):
        entry = dict(entry)
        if entry["type"] == "base64":
            name = Path(entry["filename"]).name
            while name in names:
                name = f"{index}-{name}"
            names.add(name)
            (folder / name).write_bytes(base64.b64decode(entry["data"]))
            entry |= {"type": "file", "data": name}
        entries.append(entry)
    kept = {key: value for key, value in answer.items() if key != "image_base64"}
    text = json.dumps(kept | {"images": entries}, indent=2)
    (folder / "answer.json").write_text(text + "\n")
