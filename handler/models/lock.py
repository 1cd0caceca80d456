"""What `models.lock` pins, and whether a file is what it says.

Only reads. `model_places` says where the files are, `model_fetch` brings them.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from handler.errors import InvalidModelsLock, ModelCorrupt
from handler.nearest import nearest

# ComfyUI's folder_paths.py searches both spellings; downloads in the wild use either.
_SPELLINGS = (("unet", "diffusion_models"), ("clip", "text_encoders"))

_FOLDER = re.compile(r"[A-Za-z0-9_-]+")
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._+-]*\.safetensors")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PROFILE = re.compile(r"[a-z0-9][a-z0-9_-]*")

_OPTIONAL = ("sample_sha256", "profiles", "role")
_KINDS: dict[str, tuple[type, str]] = {"bytes": (int, "an integer"), "profiles": (list, "a list")}

# The safetensors library refuses a longer header (MAX_HEADER_SIZE in its source).
_MAX_HEADER_BYTES = 100_000_000
_READ_BYTES = 8 * 1024 * 1024
_SAMPLES = 16
_SAMPLE_BYTES = 4096

Role = Literal["unet", "clip", "vae", "lightning"]
"""What prompt mode uses a file as."""

FaultKind = Literal[
    "empty", "git_lfs_pointer", "html_page", "not_safetensors", "truncated", "wrong_size",
    "other_file", "wrong_sha256", "unreadable",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One `[[model]]` table: `path` of `repo` at `revision` belongs at `folder/file`.

    `sample_sha256` is the digest of `sample_spans`, where `make lock-models` has written one.
    """

    folder: str
    file: str
    repo: str
    revision: str
    path: str
    bytes: int
    sha256: str
    licence: str
    sample_sha256: str | None = None
    role: Role | None = None

    @property
    def place(self) -> str:
        """`folder/file`, as messages name it."""
        return f"{self.folder}/{self.file}"

    @property
    def folders(self) -> tuple[str, ...]:
        """The names under which ComfyUI searches `folder`, the locked one first."""
        for spellings in _SPELLINGS:
            if self.folder in spellings:
                return tuple(sorted(spellings, key=lambda name: name != self.folder))
        return (self.folder,)


@dataclass(frozen=True, slots=True)
class ModelsLock:
    """The files of one profile."""

    profile: str
    models: tuple[ModelFile, ...]

    @property
    def total_bytes(self) -> int:
        return sum(model.bytes for model in self.models)


def read_models_lock(path: Path, profile: str | None = None) -> ModelsLock:
    """The files of `profile`, which is the lock's own `profile` if none is named.

    A [[model]] with `profiles` belongs to those, one without to all. Raises InvalidModelsLock that
    names the lock, and every fault with its entry.
    """
    table = _read_toml(path)
    faults = [f"unknown key {key!r}" for key in table if key not in ("profile", "model")]
    default, entries = table.get("profile"), table.get("model")
    if not isinstance(default, str) or not default:
        faults.append("`profile` must be a name")
    if not isinstance(entries, list) or not entries:
        raise _bad_lock(path, [*faults, "it needs at least one [[model]] table"])
    for number, entry in enumerate(entries, start=1):
        faults += [f"{_label(number, entry)}: {fault}" for fault in _entry_faults(entry)]
    if faults:
        raise _bad_lock(path, faults)
    known = {str(default): None} | {
        name: None for entry in entries for name in entry.get("profiles", [])
    }
    if faults := [fault for name in known for fault in _duplicates(entries, name)]:
        raise _bad_lock(path, list(dict.fromkeys(faults)))
    chosen = profile or str(default)
    if chosen not in known:
        raise _bad_lock(path, [f"there is no profile {chosen!r}; it has {', '.join(known)}"])
    models = tuple(model for _, model in _members(entries, chosen))
    if not models:
        raise _bad_lock(path, [f"no model belongs to the profile {chosen!r}"])
    return ModelsLock(profile=chosen, models=models)


def _members(entries: list[dict[str, Any]], profile: str) -> Iterator[tuple[int, ModelFile]]:
    """The models of one profile, each with the number of its entry."""
    for number, entry in enumerate(entries, start=1):
        if profile in entry.get("profiles", [profile]):
            yield number, ModelFile(**{k: v for k, v in entry.items() if k != "profiles"})


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise _bad_lock(path, [f"it can't be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError as exc:
        raise _bad_lock(path, [f"it is not UTF-8 (byte {exc.start})"]) from exc
    except tomllib.TOMLDecodeError as exc:
        raise _bad_lock(path, [f"it is not TOML: {exc}"]) from exc


def _duplicates(entries: list[dict[str, Any]], profile: str) -> Iterator[str]:
    first: dict[tuple[str, str], int] = {}
    for number, model in _members(entries, profile):
        # Both spellings are one folder to ComfyUI.
        other = first.setdefault((min(model.folders), model.file), number)
        if other != number:
            yield f"model {number} ({model.file}): the same file as model {other}"
    of_role: dict[str, int] = {}
    for number, model in _members(entries, profile):
        if model.role and (other := of_role.setdefault(model.role, number)) != number:
            yield f"model {number} ({model.file}): the same role as model {other}: {model.role}"


def _bad_lock(path: Path, faults: list[str]) -> InvalidModelsLock:
    return InvalidModelsLock(f"{path}: {'; '.join(faults)}", lock=str(path), faults=faults)


def _label(number: int, entry: Any) -> str:
    file = entry.get("file") if isinstance(entry, dict) else None
    return f"model {number} ({file})" if isinstance(file, str) else f"model {number}"


def _entry_faults(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "it must be a [[model]] table"
        return
    known = [*(field.name for field in fields(ModelFile)), "profiles"]
    for key in entry:
        if key not in known:
            near = nearest(key, known)
            yield f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    for key in known:
        if key in entry:
            yield from _key_faults(key, entry[key])
        elif key not in _OPTIONAL:
            yield f"{key!r} is missing"


def _key_faults(key: str, value: Any) -> Iterator[str]:
    kind, name = _KINDS.get(key, (str, "a string"))
    # TOML's booleans are Python's, which are integers too: so not isinstance.
    if type(value) is not kind:
        yield f"{key!r} must be {name}"
    elif fault := _value_fault(key, value):
        yield f"{key!r} {fault}, not {value!r}"


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
        case "role":
            roles = get_args(Role)
            return None if value in roles else f"must be one of {', '.join(roles)}"
        case "licence":
            return None if value.strip() else "must be a licence's name"
        case "profiles":
            named = [isinstance(name, str) and _PROFILE.fullmatch(name) for name in value]
            return None if named and all(named) else "must list profiles, in lower case"
    pattern, wanted = {
        "folder": (_FOLDER, "must be one plain folder name"),
        "file": (_FILE, "must be a plain file name that ends in .safetensors"),
        "repo": (_REPO, "must be owner/name"),
        "revision": (_REVISION, "must be a commit of 40 hex digits (a branch would move)"),
        "sha256": (_SHA256, "must be 64 lower-case hex digits"),
        "sample_sha256": (_SHA256, "must be 64 lower-case hex digits"),
    }[key]
    return None if pattern.fullmatch(value) else wanted


def sample_spans(size: int) -> list[tuple[int, int]]:
    """Offset and length, in bytes, of the parts that tell a file of `size` bytes from its siblings.

    A few spread evenly, the first at the start and the last at the end: files of one structure
    share size and header, and their tensors differ everywhere.
    """
    length = min(_SAMPLE_BYTES, size)
    last = _SAMPLES - 1
    return [((size - length) * number // last, length) for number in range(_SAMPLES)]


def sample_digest(samples: Iterable[bytes]) -> str:
    """SHA-256, in hex, of the parts named by `sample_spans`, one after the other."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample)
    return digest.hexdigest()


def check_model(model: ModelFile, path: Path) -> None:
    """Tell in milliseconds whether `path` can be `model`: size, safetensors header and samples.

    The format (8 bytes of header length, little-endian; JSON; data) is that of the safetensors
    README. Wrong bytes between the samples show only in `hash_model`, and with no `sample_sha256`
    in the lock so does another file of the same size. Raises ModelCorrupt; its `details["kind"]`
    is a FaultKind.
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
    if model.sample_sha256 and sample_digest(_samples(file, size)) != model.sample_sha256:
        raise _corrupt(
            model,
            path,
            "other_file",
            "it has the size of the locked file and other contents: a sibling under this name, or "
            "damaged; fetch the locked one",
            actual_bytes=size,
        )


def _samples(file: BinaryIO, size: int) -> Iterator[bytes]:
    for start, length in sample_spans(size):
        file.seek(start)
        yield file.read(length)


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
