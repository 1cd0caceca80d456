"""What `models.lock` pins."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from handler.errors import InvalidModelsLock
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

Role = Literal["unet", "clip", "vae", "lightning"]
"""What prompt mode uses a file as."""


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
