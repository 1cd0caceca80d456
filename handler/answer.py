"""What a caller gets back: success or error to the dict that RunPod sends. Pure.

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
from typing import Any

from handler.errors import WorkerError
from handler.node_outputs import NodeText
from handler.output_file import Output, OutputImage

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
) -> dict[str, Any]:
    pictures = [item for item in stored if isinstance(item.file, OutputImage)]
    others = [item for item in stored if not isinstance(item.file, OutputImage)]
    answer: dict[str, Any] = {"ok": True, "request_id": request_id, "prompt_id": prompt_id}
    # The address of a picture, if there is any, is first: callers look for it in `url`.
    for item in [*pictures, *others][:1]:
        if item.place is Place.BUCKET:
            answer["url"] = item.data
    for item in pictures[:1]:
        answer["image_base64" if item.place is Place.INLINE else "image_url"] = item.data
    answer["images"] = [_entry(item) for item in pictures]
    if others:
        answer["files"] = [_entry(item) for item in others]
    if texts:
        answer["texts"] = [{"node_id": text.node_id, "text": text.text} for text in texts]
    if seed is not None:
        answer["seed"] = seed
    return answer


def error_answer(error: WorkerError, request_id: str | None) -> dict[str, Any]:
    """`error` is one string: RunPod shows a job whose error is an object as completed
    (runpod-python issue 299)."""
    message = _presentable(error.message)
    answer: dict[str, Any] = {
        "error": f"{error.code}: {message}",
        "ok": False,
        "code": error.code,
        "message": message,
        "retryable": error.retryable,
        "request_id": request_id,
        "details": _presentable(error.details),
    }
    if encoded_bytes(answer) > _LARGEST_ERROR_BYTES:
        # RunPod takes no larger body, and would show the job as completed without an output.
        answer["details"] = {"left_out": "too large"}
    if error.refresh_worker:
        answer["refresh_worker"] = True
    return answer


def encoded_bytes(answer: Mapping[str, Any]) -> int:
    """The size of the body that RunPod's SDK posts (runpod 1.12.0, rp_http.py)."""
    return len(json.dumps({"output": answer}, ensure_ascii=False).encode())


def _entry(item: Stored) -> dict[str, Any]:
    file = item.file
    entry: dict[str, Any] = {
        # Linux names are bytes: what is not UTF-8 in them can't be sent.
        "filename": file.filename.encode("utf-8", "replace").decode(),
        "type": item.place.value,
        "data": item.data,
        "node_id": file.node_id,
    }
    if isinstance(file, OutputImage):
        entry |= {"width": file.width, "height": file.height}
        if file.frames > 1:
            entry["frames"] = file.frames
    else:
        entry["kind"] = file.kind.value
    entry |= {
        "bytes": file.size_bytes,
        "sha256": file.sha256,
        "content_type": file.content_type,
    }
    if file.is_preview:
        entry["preview"] = True
    return entry


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
