"""What a caller gets back: success or error to the dict that RunPod sends.

Two kinds of callers read it: some `image_base64`, `image_url` or `url` at the top, clients of the
stock ComfyUI worker `images[i] = {filename, type, data}`. So the first picture is there twice.
What is no picture is in `files`, which neither reads.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from handler.comfy_api import NodeText
from handler.contract import Failure, FileResult, ImageResult, ResultKind, Success
from handler.errors import WorkerError
from handler.job.outputs import Output, OutputFile, OutputImage
from handler.pruning import PrunedWork

# Addresses stay: their slashes stand beside a slash or after a host. What follows file:// goes.
_CONTAINER_PATH = re.compile(r"(?:(?<![\w/.])|(?<=://))/(?:[\w.@+~-]+/)+([\w.@+~-]*)")


_LONGEST_TEXT = 2000
_LARGEST_ERROR_BYTES = 200_000


class Place(StrEnum):
    """`type` of an entry of `images` and `files`: what its `data` is. The names are those of the
    stock ComfyUI worker."""

    INLINE = "base64"
    BUCKET = "s3_url"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that goes to the caller: its content as base64, or its address."""

    file: Output
    place: Place
    data: str


def success_answer(
    stored: Sequence[Stored],
    texts: Sequence[NodeText],
    *,
    request_id: str,
    prompt_id: str,
    seed: int | None,
    graph: str | None = None,
    pruned: Sequence[PrunedWork] = (),
) -> dict[str, Any]:
    pictures = [(item, item.file) for item in stored if isinstance(item.file, OutputImage)]
    others = [(item, item.file) for item in stored if isinstance(item.file, OutputFile)]
    answer: Success = {
        "ok": True,
        "request_id": request_id,
        "prompt_id": prompt_id,
        "images": [_image_entry(item, file) for item, file in pictures],
        # The runner puts them in when the job has ended.
        "timings": {},
    }
    # The address of a picture, if there is any, is first: callers look for it in `url`.
    for item, _ in [*pictures, *others][:1]:
        if item.place is Place.BUCKET:
            answer["url"] = item.data
    for item, _ in pictures[:1]:
        answer["image_base64" if item.place is Place.INLINE else "image_url"] = item.data
    if others:
        answer["files"] = [_file_entry(item, file) for item, file in others]
    if texts:
        answer["texts"] = [{"node_id": text.node_id, "text": text.text} for text in texts]
    return {**answer, **_notes(pictures, seed, graph, pruned)}


def _notes(
    pictures: Sequence[tuple[Stored, OutputImage]],
    seed: int | None,
    graph: str | None,
    pruned: Sequence[PrunedWork],
) -> dict[str, Any]:
    """What the answer tells of the run."""
    notes: dict[str, Any] = {}
    if seed is not None:
        notes["seed"] = seed
    if graph is not None:
        notes["graph"] = graph
    if pruned:
        notes["pruned"] = [{"rule": work.rule, "nodes": list(work.nodes)} for work in pruned]
    for _, image in pictures[:1]:
        if image.changed_outside is not None:
            notes["pixels_changed_outside"] = image.changed_outside
    return notes


def error_answer(error: WorkerError, request_id: str | None) -> dict[str, Any]:
    """`error` is one string: RunPod shows a job whose error is an object as completed
    (runpod-python issue 299)."""
    message = _presentable(error.message)
    failure: Failure = {
        "ok": False,
        "code": error.code,
        "message": message,
        "retryable": error.retryable,
        "request_id": request_id,
        "details": _presentable(error.details),
    }
    answer: dict[str, Any] = {"error": f"{error.code}: {message}", **failure}
    if encoded_bytes(answer) > _LARGEST_ERROR_BYTES:
        # RunPod takes no larger body, and would show the job as completed without an output.
        answer["details"] = {"left_out": "too large"}
    if error.refresh_worker:
        answer["refresh_worker"] = True
    return answer


def encoded_bytes(answer: Mapping[str, Any]) -> int:
    """The size of the body that RunPod's SDK posts (runpod 1.12.0, rp_http.py), found without a
    body: that would be as large as all the pictures, several times over."""
    long_texts: list[str] = []
    rest = _without_long_texts(answer, long_texts)
    body = json.dumps({"output": rest}, ensure_ascii=False).encode()
    return len(body) + sum(map(len, long_texts))


def _without_long_texts(value: Any, long_texts: list[str]) -> Any:
    """`value` with "" for each long text that JSON writes as it is; those go to `long_texts`."""
    if isinstance(value, dict):
        return {key: _without_long_texts(item, long_texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_long_texts(item, long_texts) for item in value]
    if isinstance(value, str) and len(value) > _LONGEST_TEXT and _is_plain(value):
        long_texts.append(value)
        return ""
    return value


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not ('"' in text or "\\" in text)


def _image_entry(item: Stored, image: OutputImage) -> ImageResult:
    entry: ImageResult = {
        "filename": _sendable(image.filename),
        "type": item.place.value,
        "data": item.data,
        "node_id": image.node_id,
        "width": image.width,
        "height": image.height,
        "bytes": image.size_bytes,
        "sha256": image.sha256,
        "content_type": image.content_type,
    }
    if image.frames > 1:
        entry["frames"] = image.frames
    if image.is_preview:
        entry["preview"] = True
    return entry


def _file_entry(item: Stored, file: OutputFile) -> FileResult:
    entry: FileResult = {
        "filename": _sendable(file.filename),
        "kind": cast(ResultKind, file.kind.value),
        "type": item.place.value,
        "data": item.data,
        "node_id": file.node_id,
        "bytes": file.size_bytes,
        "sha256": file.sha256,
        "content_type": file.content_type,
    }
    if file.is_preview:
        entry["preview"] = True
    return entry


def _sendable(filename: str) -> str:
    """Linux names are bytes: what is not UTF-8 in them can't be sent."""
    return filename.encode("utf-8", "replace").decode()


def _presentable(value: Any) -> Any:
    """A value that can be sent and shown: no paths of the container, nothing that UTF-8 or JSON
    lacks, which would make the SDK lose the whole answer."""
    match value:
        case str():
            text = value.encode("utf-8", "replace").decode()
            if len(text) > _LONGEST_TEXT:
                # Callers' own values come back in errors, and may be as large as a job.
                text = f"{text[:_LONGEST_TEXT]}... ({len(text)} characters)"
            return _CONTAINER_PATH.sub(r".../\1", text)
        case dict():
            return {_presentable(str(key)): _presentable(item) for key, item in value.items()}
        case list() | tuple():
            return [_presentable(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | float():
            return value
        case _:
            return _presentable(str(value))
