"""What the nodes of a run left, as ComfyUI's history lists it: files and texts.

A node's entry has any keys (`images`, `gifs`, `audio`, `3d`, `result`, `text`), each with a list
of `{"filename", "subfolder", "type"}`, texts or numbers.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handler.comfy_api.file_kinds import is_named_as_media
from handler.errors import ComfyProtocol

# `text` is ComfyUI's own (PreviewAny); the others are those of widely used packages. Texts under
# other keys are meant for the editor: paths, previews as base64.
TEXT_KEYS = frozenset({"text", "texts", "string", "strings", "tags"})


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that a node saved: ComfyUI's own triple, and the node. `folder_type` is "output",
    "temp" or "input"; `subfolder` is relative to that folder and may be empty."""

    node_id: str
    filename: str
    subfolder: str
    folder_type: str


@dataclass(frozen=True, slots=True)
class NodeText:
    """A text that a node shows."""

    node_id: str
    text: str


def files_of(entry: Mapping[str, Any]) -> tuple[SavedFile, ...]:
    """All files that the run left, previews too, however it ended. Raises ComfyProtocol."""
    try:
        return tuple(
            SavedFile(node_id, file["filename"], file.get("subfolder", ""), file["type"])
            for node_id, key, items in _lists_of(entry)
            for file in items
            if _is_file(file, key)
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ComfyProtocol(f"ComfyUI's history entry has an unknown form: {exc!r}") from exc


def named_files_of(entry: Mapping[str, Any], folder: str) -> tuple[SavedFile, ...]:
    """Files that nodes name by a path in the job's own folder, as Preview3D does with what a
    custom exporter saved. Outside that folder a path may be another job's, and counts for none."""
    return tuple(
        SavedFile(node_id, posixpath.basename(item), posixpath.dirname(item), "output")
        for node_id, key, items in _lists_of(entry)
        for item in items
        if key not in TEXT_KEYS and isinstance(item, str)
        if posixpath.normpath(item).startswith(f"{folder}/") and is_named_as_media(item)
    )


def texts_of(entry: Mapping[str, Any]) -> tuple[NodeText, ...]:
    """What is no text (a number, a list) is shown as its JSON."""
    return tuple(
        # JSON may hold half a surrogate pair; an answer, in UTF-8, can't.
        NodeText(node_id, text.encode("utf-8", "replace").decode())
        for node_id, key, items in _lists_of(entry)
        if key.lower() in TEXT_KEYS
        for text in _texts_in(items)
    )


def _lists_of(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    for node_id, output in entry["outputs"].items():
        for key, items in output.items():
            if isinstance(items, list) or key == "images":
                yield node_id, key, items


def _is_file(item: Any, key: str) -> bool:
    if isinstance(item, dict):
        names = (item.get("filename"), item.get("subfolder", ""), item.get("type"))
        if all(isinstance(name, str) for name in names):
            return True
    if key == "images":
        # Under other keys there may be anything; what is under this one must not be lost.
        raise TypeError(f"{item!r} is no file")
    return False


def _texts_in(items: list[Any]) -> list[str]:
    texts = [
        item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
        for item in items
        if item is not None
    ]
    # ComfyUI takes a bare text for a list and splits it (execution.py, get_output_from_returns).
    is_split = len(items) > 1 and all(isinstance(item, str) and len(item) == 1 for item in items)
    return ["".join(texts)] if is_split else texts
