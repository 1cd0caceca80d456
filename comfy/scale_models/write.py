"""Write small random weights under the names of the real ones, for machines without a GPU.

ComfyUI loads them with the custom node beside this script; the pictures they make are noise. The
same bytes come out on every machine.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import layout
from dimensions import DIFFUSION, LORA, TEXT_ENCODER, VAE, VISION
from layout import Layout

LOCK = "models.lock"
PROFILE = "scale"


class WeightFile(NamedTuple):
    folder: str
    file: str
    layout: Layout

    @property
    def place(self) -> Path:
        return Path(self.folder, self.file)


FILES = (
    WeightFile(
        "clip",
        "qwen_2.5_vl_7b_fp8_scaled.safetensors",
        layout.text_encoder(TEXT_ENCODER, VISION),
    ),
    WeightFile("vae", "qwen_image_vae.safetensors", layout.vae(VAE)),
    WeightFile(
        "loras",
        "Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors",
        layout.lora(LORA, DIFFUSION),
    ),
    WeightFile(
        "unet",
        "qwen_image_edit_2509_fp8_e4m3fn.safetensors",
        layout.diffusion(DIFFUSION, VAE),
    ),
)


class RefusedError(Exception):
    """The folder holds something that this script did not write."""


def main() -> int:
    arguments = _parser().parse_args()
    folder = arguments.dir.resolve()
    try:
        with _only_writer(folder):
            _write(folder, force=arguments.force)
    except RefusedError as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dir", type=Path, metavar="DIR", help="models folder to make")
    parser.add_argument("--force", action="store_true", help="write again what is complete")
    return parser


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Runs for one folder follow each other, so what is left beside it is from a dead run."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(folder: Path, *, force: bool) -> None:
    _refuse_foreign(folder)
    if not force and _is_complete(folder):
        print(f"{folder}: complete, nothing written (--force writes again)")
        return
    beside = {kind: folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "old")}
    for leftover in beside.values():
        shutil.rmtree(leftover, ignore_errors=True)
    _fill(beside["partial"])
    if folder.exists():
        folder.rename(beside["old"])
    beside["partial"].rename(folder)
    shutil.rmtree(beside["old"], ignore_errors=True)
    for weight_file in FILES:
        size = (folder / weight_file.place).stat().st_size
        print(f"{weight_file.place}  {size / 1e6:.1f} MB")


def _refuse_foreign(folder: Path) -> None:
    """The real weights have the same names: only a folder with our lock may be replaced."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if _lock(folder).get("profile") != PROFILE:
        raise RefusedError("not a folder of scale models; name a new or an empty one")
    ours = {Path(LOCK), *(weight_file.place for weight_file in FILES)}
    found = {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}
    if foreign := sorted(found - ours):
        raise RefusedError(f"holds files that are not scale models, such as {foreign[0]}")


def _lock(folder: Path) -> dict:
    try:
        return tomllib.loads((folder / LOCK).read_text())
    except (OSError, ValueError):
        return {}


def _is_complete(folder: Path) -> bool:
    models = _lock(folder).get("model", [])
    places = [folder / model["folder"] / model["file"] for model in models]
    return len(models) == len(FILES) and all(
        place.is_file() and place.stat().st_size == model["bytes"]
        for place, model in zip(places, models, strict=True)
    )


def _fill(folder: Path) -> None:
    # torch takes seconds to import, and a folder that is complete needs none of it.
    from values import save

    entries = [f'profile = "{PROFILE}"\n']
    for weight_file in FILES:
        place = folder / weight_file.place
        place.parent.mkdir(parents=True)
        save(weight_file.layout, place)
        entries.append(_lock_entry(weight_file, place))
    (folder / LOCK).write_text("\n".join(entries))
    for path in [folder / LOCK, *(folder / weight_file.place for weight_file in FILES)]:
        _flush(path)


def _lock_entry(weight_file: WeightFile, place: Path) -> str:
    with place.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return (
        "[[model]]\n"
        f'folder = "{weight_file.folder}"\n'
        f'file = "{weight_file.file}"\n'
        'repo = "local/scale-models"\n'
        f'revision = "{"0" * 40}"\n'
        f'path = "{weight_file.file}"\n'
        f"bytes = {place.stat().st_size}\n"
        f'sha256 = "{digest}"\n'
        'licence = "GPL-3.0-or-later"\n'
    )


def _flush(path: Path) -> None:
    """A power cut after the rename must not leave files of the right size and no content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
