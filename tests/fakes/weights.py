"""Small files that are whole safetensors files, and lock entries for them."""

import hashlib
import json
from pathlib import Path

from handler.models.lock import ModelFile


def safetensors(data: bytes) -> bytes:
    header = json.dumps(
        {"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    )
    return len(header).to_bytes(8, "little") + header.encode() + data


def model_of(
    content: bytes,
    folder: str = "vae",
    file: str = "a.safetensors",
    repo: str = "owner/name",
    revision: str = "0" * 40,
) -> ModelFile:
    return ModelFile(
        folder=folder,
        file=file,
        repo=repo,
        revision=revision,
        path=f"split_files/{file}",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="apache-2.0",
    )


def write_lock(path: Path, *models: ModelFile) -> Path:
    lines = ['profile = "test"\n']
    for model in models:
        lines += ["\n# a comment that stays", "[[model]]"]
        lines += [
            f"{name} = {json.dumps(getattr(model, name))}"
            for name in ModelFile.__dataclass_fields__
            if getattr(model, name) is not None
        ]
    path.write_text("\n".join([*lines, ""]))
    return path
