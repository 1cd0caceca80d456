"""One entry of ComfyUI's /history to the files it saved, or to the error it stands for. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handler.errors import ComfyProtocol, Interrupted, NodeFailed, NoOutput, OutOfMemory, RunError


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
    previews: tuple[SavedFile, ...]
    started_at_s: float | None
    ended_at_s: float | None


def read_execution(entry: Mapping[str, Any]) -> Execution:
    """Raises NodeFailed, OutOfMemory, Interrupted, NoOutput or ComfyProtocol."""
    try:
        messages = {name: data for name, data in entry["status"]["messages"]}
        files = tuple(_files(entry["outputs"]))
        is_success = entry["status"]["status_str"] == "success"
    except (KeyError, TypeError, ValueError) as exc:
        raise ComfyProtocol(f"ComfyUI's history entry has an unknown form: {exc!r}") from exc
    if not is_success:
        raise _failure(messages)
    saved = tuple(file for file in files if file.folder_type == "output")
    previews = tuple(file for file in files if file.folder_type == "temp")
    if not saved:
        hint = (
            "only previews; end the workflow in a SaveImage instead of a PreviewImage"
            if previews
            else "the workflow needs a node such as SaveImage"
        )
        raise NoOutput(f"the workflow ended well and saved no picture: {hint}")
    return Execution(
        saved,
        previews,
        _time_s(messages.get("execution_start")),
        _time_s(messages.get("execution_success")),
    )


def _files(outputs: Mapping[str, Any]) -> Iterator[SavedFile]:
    for node_id, output in outputs.items():
        for file in output.get("images", ()):
            yield SavedFile(node_id, file["filename"], file["subfolder"], file["type"])


def _failure(messages: Mapping[str, Any]) -> RunError | ComfyProtocol:
    if "execution_interrupted" in messages:
        return Interrupted("the run was interrupted")
    fault = messages.get("execution_error")
    if fault is None:
        return ComfyProtocol("ComfyUI reports a failed run and no reason")
    node_id, class_type = str(fault.get("node_id")), str(fault.get("node_type"))
    exception_type = str(fault.get("exception_type", ""))
    # ComfyUI appends advice for its editor's users after a line break.
    reason = str(fault.get("exception_message", "")).strip().partition("\n")[0]
    kind: type[RunError] = NodeFailed
    # Of torch.cuda too, and of the host: all end in the same name.
    if exception_type.endswith("OutOfMemoryError") or exception_type == "MemoryError":
        kind = OutOfMemory
    return kind(
        f"node {node_id} ({class_type}) raised {exception_type}: {reason}",
        node_id=node_id,
        class_type=class_type,
        exception_type=exception_type,
    )


def _time_s(data: Mapping[str, Any] | None) -> float | None:
    return data["timestamp"] / 1000 if data and "timestamp" in data else None
