"""What `models.lock` pins, where those files are, and whether they are what it says.

Only reads. Fetching a file, and choosing among several models folders, is left to others.
"""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal

from handler.errors import InvalidModelsLock, ModelCorrupt, ModelMissing

# ComfyUI's folder_paths.py searches both spellings; downloads in the wild use either.
_SPELLINGS = (("unet", "diffusion_models"), ("clip", "text_encoders"))

_FOLDER = re.compile(r"[A-Za-z0-9_-]+")
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._+-]*\.safetensors")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# The safetensors library refuses a longer header (MAX_HEADER_SIZE in its source).
_MAX_HEADER_BYTES = 100_000_000
_READ_BYTES = 8 * 1024 * 1024

FaultKind = Literal[
    "empty", "git_lfs_pointer", "html_page", "not_safetensors", "truncated", "wrong_size",
    "wrong_sha256", "unreadable",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One `[[model]]` table: `path` of `repo` at `revision` belongs at `folder/file`."""

    folder: str
    file: str
    repo: str
    revision: str
    path: str
    bytes: int
    sha256: str
    licence: str

    @property
    def folders(self) -> tuple[str, ...]:
        """The names under which ComfyUI searches `folder`, the locked one first."""
        for spellings in _SPELLINGS:
            if self.folder in spellings:
                return tuple(sorted(spellings, key=lambda name: name != self.folder))
        return (self.folder,)


@dataclass(frozen=True, slots=True)
class ModelsLock:
    profile: str
    models: tuple[ModelFile, ...]

    @property
    def total_bytes(self) -> int:
        return sum(model.bytes for model in self.models)


def read_models_lock(path: Path) -> ModelsLock:
    """Raises InvalidModelsLock that names the lock, and every fault with its entry."""
    table = _read_toml(path)
    faults = [f"unknown key {key!r}" for key in table if key not in ("profile", "model")]
    profile, entries = table.get("profile"), table.get("model")
    if not isinstance(profile, str) or not profile:
        faults.append("`profile` must be a name")
    if not isinstance(entries, list) or not entries:
        raise _bad_lock(path, [*faults, "it needs at least one [[model]] table"])
    for number, entry in enumerate(entries, start=1):
        faults += [f"{_label(number, entry)}: {fault}" for fault in _entry_faults(entry)]
    if faults:
        raise _bad_lock(path, faults)
    models = tuple(ModelFile(**entry) for entry in entries)
    if faults := list(_duplicates(models)):
        raise _bad_lock(path, faults)
    return ModelsLock(profile=str(profile), models=models)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise _bad_lock(path, [f"it can't be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError as exc:
        raise _bad_lock(path, [f"it is not UTF-8 (byte {exc.start})"]) from exc
    except tomllib.TOMLDecodeError as exc:
        raise _bad_lock(path, [f"it is not TOML: {exc}"]) from exc


def _duplicates(models: tuple[ModelFile, ...]) -> Iterator[str]:
    first: dict[tuple[str, str], int] = {}
    for number, model in enumerate(models, start=1):
        # Both spellings are one folder to ComfyUI.
        other = first.setdefault((min(model.folders), model.file), number)
        if other != number:
            yield f"model {number} ({model.file}): the same file as model {other}"


def _bad_lock(path: Path, faults: list[str]) -> InvalidModelsLock:
    return InvalidModelsLock(f"{path}: {'; '.join(faults)}", lock=str(path), faults=faults)


def _label(number: int, entry: Any) -> str:
    file = entry.get("file") if isinstance(entry, dict) else None
    return f"model {number} ({file})" if isinstance(file, str) else f"model {number}"


def _entry_faults(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "it must be a [[model]] table"
        return
    known = {field.name: field.type for field in fields(ModelFile)}
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            yield f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    for key, kind in known.items():
        if key not in entry:
            yield f"{key!r} is missing"
        # TOML's booleans are Python's, which are integers too: so not isinstance.
        elif type(entry[key]) is not kind:
            yield f"{key!r} must be {'an integer' if kind is int else 'a string'}"
        elif fault := _value_fault(key, entry[key]):
            yield f"{key!r} {fault}, not {entry[key]!r}"


def _value_fault(key: str, value: Any) -> str | None:
    match key:
        case "bytes":
            return None if value > 0 else "must be more than 0"
        case "path":
            # Anything but a plain relative path could leave the folder it is fetched into.
            plain = not re.search(r"[\\\x00-\x1f]", value) and not (
                {"", ".", ".."} & set(value.split("/"))
            )
            return None if plain else "must be a relative path with no '..'"
        case "licence":
            return None if value.strip() else "must be a licence's name"
    pattern, wanted = {
        "folder": (_FOLDER, "must be one plain folder name"),
        "file": (_FILE, "must be a plain file name that ends in .safetensors"),
        "repo": (_REPO, "must be owner/name"),
        "revision": (_REVISION, "must be a commit of 40 hex digits (a branch would move)"),
        "sha256": (_SHA256, "must be 64 lower-case hex digits"),
    }[key]
    return None if pattern.fullmatch(value) else wanted


def find_models(lock: ModelsLock, models_dir: Path) -> dict[ModelFile, Path]:
    """Where each locked file lies under `models_dir`, in any spelling of its folder.

    Raises one ModelMissing for all that are not there, with every place that was searched.
    """
    found: dict[ModelFile, Path] = {}
    missing: list[dict[str, Any]] = []
    for model in lock.models:
        places = [models_dir / folder / model.file for folder in model.folders]
        path = next((place for place in places if _is_file(place)), None)
        if path is not None:
            found[model] = path
            continue
        missing.append(
            {
                "file": model.file,
                "searched": [str(place) for place in places],
                "notes": [note for place in places if (note := _note(place))],
            }
        )
    if missing:
        raise ModelMissing(_missing_message(missing, models_dir), missing=missing)
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _note(place: Path) -> str | None:
    """Why `place` is no file although something is there, or a file beside it that looks alike."""
    try:
        if place.is_symlink() and not place.exists():
            return f"{place} is a link to {place.readlink()}, which is not there"
        if place.exists():
            return f"{place} is not a file"
        names = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
    except OSError as exc:
        return f"{place.parent} can't be read: {exc.strerror}"
    near = difflib.get_close_matches(place.name, names, n=1, cutoff=0.8)
    return f"{place.parent} has {near[0]}" if near else None


def _missing_message(missing: list[dict[str, Any]], models_dir: Path) -> str:
    lines = []
    for entry in missing:
        line = f"{entry['file']} (searched: {', '.join(entry['searched'])}"
        lines.append("; ".join([line, *entry["notes"]]) + ")")
    where = "" if models_dir.is_dir() else f"; the models folder {models_dir} is not there"
    count = f"{len(missing)} model file{'s' if len(missing) > 1 else ''} not found{where}"
    return f"{count}: {'; '.join(lines)}"


def check_model(model: ModelFile, path: Path) -> None:
    """Tell in milliseconds whether `path` can be `model`: its size and its safetensors header.

    The format (8 bytes of header length, little-endian; JSON; data) is that of the safetensors
    README. Wrong bytes within the data show only in `hash_model`. Raises ModelCorrupt; its
    `details["kind"]` is a FaultKind.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            _check_content(model, path, file, size)
    except OSError as exc:
        raise _unreadable(model, path, exc) from exc


def _check_content(model: ModelFile, path: Path, file: BinaryIO, size: int) -> None:
    start = file.read(512)
    if size == 0:
        raise _corrupt(model, path, "empty", "it is empty: fetch it again", actual_bytes=0)
    if start.startswith(b"version https://git-lfs"):
        raise _corrupt(
            model,
            path,
            "git_lfs_pointer",
            "it is a git-LFS pointer, not the weights: run `git lfs pull` in the clone it comes "
            "from, or fetch it again",
            actual_bytes=size,
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html")):
        raise _corrupt(
            model,
            path,
            "html_page",
            "it is a web page, not the weights: the download was answered by a login or error "
            "page; fetch it again from the file's own address",
            actual_bytes=size,
        )
    declared = _declared_bytes(model, path, file, size)
    if size < declared:
        raise _truncated(model, path, size, declared)
    if size != declared:
        fault = f"its header speaks of {declared:,} bytes and the file has {size:,}"
        raise _not_safetensors(model, path, fault, size)
    if size != model.bytes:
        raise _corrupt(
            model,
            path,
            "wrong_size",
            f"it is a whole safetensors file of {size:,} bytes, and the locked one has "
            f"{model.bytes:,}: another version or precision under this name; fetch the locked one",
            actual_bytes=size,
        )


def _declared_bytes(model: ModelFile, path: Path, file: BinaryIO, size: int) -> int:
    """How long the file must be by its own header."""
    file.seek(0)
    prefix = file.read(9)
    length = int.from_bytes(prefix[:8], "little")
    if not prefix.strip(b"\0"):
        fault = "it begins with zeros, as a download that reserved its space does"
        raise _not_safetensors(model, path, fault, size)
    if len(prefix) < 9 or prefix[8:] != b"{" or length > _MAX_HEADER_BYTES:
        raise _not_safetensors(model, path, "it does not begin with a header", size)
    if size < 8 + length:
        # Cut within its header: the lock is the only one left to say how long it was to be.
        raise _truncated(model, path, size, max(model.bytes, 8 + length))
    file.seek(8)
    try:
        return 8 + length + _data_bytes(json.loads(file.read(length)))
    except (ValueError, RecursionError) as exc:
        raise _not_safetensors(model, path, "its header is damaged", size) from exc


def _data_bytes(header: dict[str, Any]) -> int:
    """Raises ValueError for a tensor without data offsets."""
    end = 0
    for name, tensor in header.items():
        match tensor:
            case {"data_offsets": [int(first), int(last)]} if 0 <= first <= last:
                end = max(end, last)
            case _ if name != "__metadata__":
                raise ValueError(f"no data offsets for {name!r}")
    return end


def _not_safetensors(model: ModelFile, path: Path, fault: str, size: int) -> ModelCorrupt:
    text = f"it is not a safetensors file: {fault}; fetch it again"
    return _corrupt(model, path, "not_safetensors", text, actual_bytes=size)


def _truncated(model: ModelFile, path: Path, size: int, whole: int) -> ModelCorrupt:
    return _corrupt(
        model,
        path,
        "truncated",
        f"it is cut off: {size:,} of {whole:,} bytes; the download was not finished, or the disk "
        "is full; fetch it again",
        actual_bytes=size,
    )


def hash_model(model: ModelFile, path: Path, progress: Callable[[int], None]) -> None:
    """Compare the whole file with the lock. `progress` gets the bytes hashed so far.

    Raises ModelCorrupt.
    """
    digest = hashlib.sha256()
    # Not mmap: on a network volume a read error there is a SIGBUS that ends the process.
    buffer = memoryview(bytearray(_READ_BYTES))
    done = 0
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                done += count
                progress(done)
    except OSError as exc:
        raise _unreadable(model, path, exc) from exc
    if digest.hexdigest() != model.sha256:
        raise _corrupt(
            model,
            path,
            "wrong_sha256",
            f"its bytes are not the locked ones: sha256 is {digest.hexdigest()}, and the lock has "
            f"{model.sha256}; damaged, or another file under this name; fetch it again",
            actual_bytes=done,
            actual_sha256=digest.hexdigest(),
            expected_sha256=model.sha256,
        )


def _unreadable(model: ModelFile, path: Path, exc: OSError) -> ModelCorrupt:
    return _corrupt(model, path, "unreadable", f"it can't be read: {exc.strerror}")


def _corrupt(
    model: ModelFile, path: Path, kind: FaultKind, fault: str, **details: Any
) -> ModelCorrupt:
    return ModelCorrupt(
        f"{path}: {fault}",
        file=model.file,
        path=str(path),
        kind=kind,
        expected_bytes=model.bytes,
        **details,
    )
