"""Where the locked weights may lie, and where each of them is.

The places and their order are one table, `search_places`. Only reads, so a volume that is mounted
read-only serves as well; `link_models` writes into a folder of the worker's own.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handler.errors import ModelMissing
from handler.models.lock import ModelFile, ModelsLock
from handler.nearest import nearest

# Where RunPod mounts a network volume in a serverless worker.
VOLUME = Path("/runpod-volume")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Place:
    """`name` is for people; `paths` gives every path under `root` at which a model may lie."""

    name: str
    root: Path
    paths: Callable[[Path, ModelFile], Iterable[Path]]


@dataclass(frozen=True, slots=True)
class FoundModel:
    model: ModelFile
    path: Path
    place: str


def _in_folders(root: Path, model: ModelFile) -> Iterator[Path]:
    """ComfyUI's layout, under either name of the folder."""
    for folder in model.folders:
        yield root / folder / model.file


def _in_hub_cache(root: Path, model: ModelFile) -> Iterator[Path]:
    """The layout of huggingface_hub's cache: snapshots of commits, and `refs/main` naming one."""
    repo = root / f"models--{model.repo.replace('/', '--')}"
    for revision in dict.fromkeys([model.revision, *_main_revision(repo)]):
        yield repo / "snapshots" / revision / model.path


def _main_revision(repo: Path) -> Iterator[str]:
    try:
        revision = (repo / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return
    if _COMMIT.fullmatch(revision):
        yield revision


def search_places(models_dir: Path, volume: Path = VOLUME) -> tuple[Place, ...]:
    """In the order of the search. `models_dir` is where the image has its weights baked in."""
    return (
        Place("models folder", models_dir, _in_folders),
        Place("volume", volume, _in_folders),
        Place("volume, models", volume / "models", _in_folders),
        Place("volume, ComfyUI/models", volume / "ComfyUI" / "models", _in_folders),
        Place("hub cache on the volume", volume / "huggingface-cache" / "hub", _in_hub_cache),
    )


def folder_place(models_dir: Path) -> tuple[Place, ...]:
    """One models folder and nothing else, for commands that are given it."""
    return (Place("models folder", models_dir, _in_folders),)


def find_model(model: ModelFile, places: Iterable[Place]) -> FoundModel | None:
    """The first file that is there; whether it is sound is for `check_model` to say."""
    for place in places:
        for path in place.paths(place.root, model):
            if _is_file(path) and _other_blob(model, path) is None:
                return FoundModel(model, path, place.name)
    return None


def find_models(lock: ModelsLock, places: tuple[Place, ...]) -> tuple[FoundModel, ...]:
    """Every model of the lock, in its order.

    Raises one ModelMissing for all that are not there, with every place that was searched and,
    where there is one, a file of nearly the name.
    """
    found = {model: find_model(model, places) for model in lock.models}
    if missing := [model for model, at in found.items() if at is None]:
        raise _missing(missing, places)
    return tuple(at for at in found.values() if at is not None)


def link_models(found: Iterable[FoundModel], into: Path) -> None:
    """Make `into` a models folder of ComfyUI's layout, with a link to each model where it lies.

    A file of a hub cache has no folder that ComfyUI could search, and a workflow must get the file
    that was checked, not one of the same name in another place. Raises OSError.
    """
    for at in found:
        folder = into / at.model.folder
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / at.model.file
        link.unlink(missing_ok=True)
        link.symlink_to(at.path.absolute())


def model_folders(
    links: Path, places: Iterable[Place], kinds: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """ComfyUI's extra_model_paths form: the links first, then every models folder that is there,
    so that an operator's own LoRAs on the volume are seen too.

    `kinds` are the names of model folders that ComfyUI knows. The hub cache is not of that layout
    and is reached by its links only.
    """
    folders = {name: name for name in sorted(kinds)}
    roots = [links, *(place.root for place in places if place.paths is _in_folders)]
    # ComfyUI puts each default folder before those it was told of earlier (folder_paths.py,
    # add_model_folder_path), so the first to be searched is told last.
    return {
        f"worker {number}": {"base_path": str(root.absolute()), "is_default": True, **folders}
        for number, root in reversed(list(enumerate(roots)))
        if root == links or root.is_dir()
    }


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _other_blob(model: ModelFile, path: Path) -> str | None:
    """The digest of the contents when the hub cache's own link names another than the locked one.

    The cache keeps each large file under its SHA-256 (huggingface_hub, blobs/<etag>), so this is
    known without reading it. A file that is not such a link is left to `check_model`.
    """
    if not path.is_symlink():
        return None
    try:
        target = path.readlink()
    except OSError:
        return None
    if target.parent.name != "blobs" or not _SHA256.fullmatch(target.name):
        return None
    return None if target.name == model.sha256 else target.name


def _missing(models: list[ModelFile], places: tuple[Place, ...]) -> ModelMissing:
    entries: list[dict[str, Any]] = []
    for model in models:
        # The models folder may be one of the volume's, which is then named once.
        paths = dict.fromkeys(path for at in places for path in at.paths(at.root, model))
        notes = dict.fromkeys(note for path in paths if (note := _note(model, path)))
        searched = [str(path) for path in paths]
        entries.append({"file": model.file, "searched": searched, "notes": list(notes)})
    absent = [place for place in places if not _is_dir(place.root)]
    return ModelMissing(_missing_message(entries, absent), missing=entries)


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _missing_message(entries: list[dict[str, Any]], absent: list[Place]) -> str:
    """Paths below a root that is not there are left out: the root says it for all of them."""
    lines = []
    for entry in entries:
        paths = [path for path in entry["searched"] if not _is_under(path, absent)]
        told = [f"searched: {', '.join(paths)}"] if paths else []
        told += entry["notes"]
        lines.append(entry["file"] + (f" ({'; '.join(told)})" if told else ""))
    count = f"{len(entries)} model file{'s' if len(entries) > 1 else ''} not found"
    roots = ", ".join(f"{place.root} ({place.name})" for place in absent)
    return f"{count}: {'; '.join(lines)}" + (f"; not there at all: {roots}" if roots else "")


def _is_under(path: str, places: list[Place]) -> bool:
    return any(Path(path).is_relative_to(place.root) for place in places)


def _note(model: ModelFile, path: Path) -> str | None:
    """Why `path` does not serve although something is there, or a neighbour that looks alike."""
    try:
        if path.is_symlink() and not path.exists():
            return f"{path} is a link to {path.readlink()}, which is not there"
        if path.exists():
            digest = _other_blob(model, path)
            return f"{path} has sha256 {digest}" if digest else f"{path} is not a file"
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as exc:
        return f"{path.parent} can't be read: {exc.strerror}"
    if any(name.startswith(f".{path.name}.") and name.endswith(".part") for name in names):
        return f"{path.parent} has an unfinished download of it"
    near = nearest(path.name, names, cutoff=0.8)
    return f"{path.parent} has {near[0]}" if near else None
