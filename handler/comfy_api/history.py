"""One entry of ComfyUI's /history to what its nodes left, or to the error it stands for."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from handler.comfy_api.gpu_faults import Damage, damage, is_out_of_memory
from handler.comfy_api.node_outputs import NodeText, SavedFile, files_of, named_files_of, texts_of
from handler.errors import (
    ComfyProtocol,
    DiskFull,
    Interrupted,
    NodeFailed,
    NoOutput,
    OutOfMemory,
    WorkerError,
)

# ComfyUI appends it to what an exception says (execution.py, OOM tips).
_EDITOR_ADVICE = "This error means you ran out of memory on your GPU."
# ENOSPC and EDQUOT, by type, as Python (and PyAV, whose type has the same name) and Rust begin to
# tell them: what follows may be a caller's text.
_DISK_FULL = {
    "OSError": re.compile(r"\[Errno (?:28|122)\] "),
    "SafetensorError": re.compile(
        r"Error while serializing: I/O error: [\w ]+ \(os error (?:28|122)\)"
    ),
}

_ENDINGS = frozenset({"execution_success", "execution_error", "execution_interrupted"})


@dataclass(frozen=True, slots=True)
class Execution:
    """What a prompt that ended well left behind: saved files before previews, each once. Times
    are seconds since 1970."""

    files: tuple[SavedFile, ...]
    texts: tuple[NodeText, ...]
    started_at_s: float | None
    ended_at_s: float | None
    has_unwanted_previews: bool = False


def read_execution(
    entry: Mapping[str, Any], folder: str, *, wants_previews: bool = False
) -> Execution:
    """`folder` is the job's own, relative to ComfyUI's output folder.

    Raises NodeFailed, OutOfMemory, DiskFull, Interrupted or ComfyProtocol.
    """
    try:
        return _read(entry, folder, wants_previews)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ComfyProtocol(f"ComfyUI's history entry has an unknown form: {exc!r}") from exc


def _read(entry: Mapping[str, Any], folder: str, wants_previews: bool) -> Execution:
    messages = {name: data for name, data in entry["status"]["messages"]}
    # Both: ComfyUI leaves "success" standing when a run fails between two nodes.
    if entry["status"]["status_str"] != "success" or "execution_success" not in messages:
        raise _failure(messages)
    files = _each_once((*files_of(entry), *named_files_of(entry, folder)))
    # Those of type "input" are what loaders show of their own.
    saved = [file for file in files if file.folder_type == "output"]
    previews = [file for file in files if file.folder_type == "temp"]
    texts = texts_of(entry)
    return Execution(
        (*saved, *previews) if wants_previews else tuple(saved),
        texts,
        _time_s(messages.get("execution_start")),
        _time_s(messages.get("execution_success")),
        has_unwanted_previews=bool(previews) and not wants_previews,
    )


def _each_once(files: Iterable[SavedFile]) -> list[SavedFile]:
    """Two nodes, or two keys of one, may show the same file."""
    once: dict[tuple[str, str, str], SavedFile] = {}
    for file in files:
        once.setdefault((file.folder_type, file.subfolder, file.filename), file)
    return list(once.values())


def span_of(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    """When the prompt began and ended, in seconds since 1970; None where it did not begin. Raises
    nothing."""
    times = {
        message[0]: _time_s(message[1])
        for message in (entry.get("status") or {}).get("messages") or ()
        if len(message) == 2 and isinstance(message[1], dict)
    }
    start = times.get("execution_start")
    ends = [time_s for name, time_s in times.items() if name in _ENDINGS and time_s is not None]
    return (start, max(ends)) if start is not None and ends else None


def no_output(execution: Execution) -> NoOutput:
    """For a run that left no file and no text."""
    hint = (
        "only previews; end the workflow in a SaveImage instead of a PreviewImage, or ask for them "
        "with input.output.previews"
        if execution.has_unwanted_previews
        else "the workflow needs a node such as SaveImage"
    )
    return NoOutput(f"the workflow ended well and left nothing to return: {hint}")


def is_interrupted(entry: Mapping[str, Any]) -> bool:
    """Whether the run ended because somebody asked for it. Raises nothing."""
    messages = (entry.get("status") or {}).get("messages") or ()
    return any(message and message[0] == "execution_interrupted" for message in messages)


def in_order_of(prompt: Mapping[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with its outputs in the order of the workflow's nodes. ComfyUI's own is that of a
    set of texts (execution.py, good_outputs). Raises nothing."""
    outputs = entry.get("outputs")
    if not isinstance(outputs, dict):
        return entry
    places = {node_id: place for place, node_id in enumerate(prompt)}
    ordered = sorted(outputs.items(), key=lambda item: places.get(item[0], len(places)))
    return {**entry, "outputs": dict(ordered)}


def node_error(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """The type and the message of what a node raised, if one did. Raises nothing."""
    messages = (entry.get("status") or {}).get("messages") or ()
    for message in messages:
        if message and message[0] == "execution_error":
            fault = message[1]
            return str(fault.get("exception_type", "")), str(fault.get("exception_message", ""))
    return None


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
        # Jobs remove what they leave, so nothing in this worker will free the disk.
        reason += "; give the endpoint a larger container disk, or have the workflow save less"
    error = kind(
        f"node {node_id} ({class_type}) raised {exception_type}: {reason}",
        node_id=node_id,
        class_type=class_type,
        exception_type=exception_type,
    )
    if kind is DiskFull:
        error.refresh_worker = True
    if damage(exception_type, reason) is Damage.DEVICE:
        # Another worker has another GPU.
        error.refresh_worker = error.retryable = True
    return error


def _kind(exception_type: str, reason: str) -> type[WorkerError]:
    if is_out_of_memory(exception_type, reason):
        return OutOfMemory
    disk_full = _DISK_FULL.get(exception_type.rpartition(".")[2])
    if disk_full and disk_full.match(reason):
        return DiskFull
    return NodeFailed


def _time_s(data: Mapping[str, Any] | None) -> float | None:
    return data["timestamp"] / 1000 if data and "timestamp" in data else None
