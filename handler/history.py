"""One entry of ComfyUI's /history to the files it saved, or to the error it stands for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handler.errors import (
    ComfyProtocol,
    DiskFull,
    Interrupted,
    NodeFailed,
    NoOutput,
    OutOfMemory,
    WorkerError,
)
from handler.gpu_faults import Damage, damage, is_out_of_memory

_FILE_KEYS = frozenset({"filename", "subfolder", "type"})
# ComfyUI appends it to what an exception says (execution.py, OOM tips).
_EDITOR_ADVICE = "This error means you ran out of memory on your GPU."
# ENOSPC and EDQUOT, as Python and Rust say them.
_DISK_FULL = ("No space left on device", "Disk quota exceeded")


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that a node saved: ComfyUI's own triple, and the node. `folder_type` is "output",
    "temp" or "input"; `subfolder` is relative to that folder and may be empty."""

    node_id: str
    filename: str
    subfolder: str
    folder_type: str


@dataclass(frozen=True, slots=True)
class Execution:
    """What a prompt that ended well left behind. Times are seconds since 1970."""

    saved: tuple[SavedFile, ...]
    started_at_s: float | None
    ended_at_s: float | None


def read_execution(entry: Mapping[str, Any]) -> Execution:
    """Raises NodeFailed, OutOfMemory, DiskFull, Interrupted, NoOutput or ComfyProtocol."""
    try:
        return _read(entry)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ComfyProtocol(f"ComfyUI's history entry has an unknown form: {exc!r}") from exc


def _read(entry: Mapping[str, Any]) -> Execution:
    messages = {name: data for name, data in entry["status"]["messages"]}
    # Both: ComfyUI leaves "success" standing when a run fails between two nodes.
    if entry["status"]["status_str"] != "success" or "execution_success" not in messages:
        raise _failure(messages)
    files = files_of(entry)
    saved = tuple(file for file in files if file.folder_type == "output")
    if not saved:
        hint = (
            "only previews; end the workflow in a SaveImage instead of a PreviewImage"
            if files
            else "the workflow needs a node such as SaveImage"
        )
        raise NoOutput(f"the workflow ended well and saved no picture: {hint}")
    return Execution(
        saved,
        _time_s(messages.get("execution_start")),
        _time_s(messages.get("execution_success")),
    )


def is_interrupted(entry: Mapping[str, Any]) -> bool:
    """Whether the run ended because somebody asked for it. Raises nothing."""
    messages = (entry.get("status") or {}).get("messages") or ()
    return any(message and message[0] == "execution_interrupted" for message in messages)


def node_error(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """The type and the message of what a node raised, if one did. Raises nothing."""
    messages = (entry.get("status") or {}).get("messages") or ()
    for message in messages:
        if message and message[0] == "execution_error":
            fault = message[1]
            return str(fault.get("exception_type", "")), str(fault.get("exception_message", ""))
    return None


def files_of(entry: Mapping[str, Any]) -> tuple[SavedFile, ...]:
    """All files that the run left, previews too, however it ended. Raises ComfyProtocol."""
    try:
        return tuple(
            SavedFile(node_id, file["filename"], file["subfolder"], file["type"])
            for node_id, output in entry["outputs"].items()
            for key, files in output.items()
            for file in (files if isinstance(files, list) or key == "images" else ())
            # Under other keys there may be anything; what is under this one must not be lost.
            if key == "images" or (isinstance(file, dict) and file.keys() >= _FILE_KEYS)
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ComfyProtocol(f"ComfyUI's history entry has an unknown form: {exc!r}") from exc


def _failure(messages: Mapping[str, Any]) -> WorkerError:
    if "execution_interrupted" in messages:
        return Interrupted("the run was interrupted")
    fault = messages.get("execution_error")
    if fault is None:
        return ComfyProtocol("ComfyUI reports a failed run and no reason")
    node_id, class_type = str(fault.get("node_id")), str(fault.get("node_type"))
    exception_type = str(fault.get("exception_type", ""))
    reason = str(fault.get("exception_message", "")).partition(_EDITOR_ADVICE)[0].strip()
    kind = _kind(exception_type, reason)
    if kind is DiskFull:
        reason += "; give the endpoint a larger container disk, or have the workflow save less"
    error = kind(
        f"node {node_id} ({class_type}) raised {exception_type}: {reason}",
        node_id=node_id,
        class_type=class_type,
        exception_type=exception_type,
    )
    if damage(exception_type, reason) is Damage.DEVICE:
        # Another worker has another GPU.
        error.refresh_worker = error.retryable = True  # type: ignore[misc]
    return error


def _kind(exception_type: str, reason: str) -> type[WorkerError]:
    if is_out_of_memory(exception_type, reason):
        return OutOfMemory
    if any(phrase in reason for phrase in _DISK_FULL):
        return DiskFull
    return NodeFailed


def _time_s(data: Mapping[str, Any] | None) -> float | None:
    return data["timestamp"] / 1000 if data and "timestamp" in data else None
