"""A job as the worker takes it: JSON in pieces, so that its pictures are never whole in memory."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

from gateway.job import RAW, Job
from gateway.objects import ObjectStore

# A multiple of 3: base64 of the pieces is then base64 of the whole.
_CHUNK_BYTES = 384 * 1024


def worker_job(job: Job, objects: ObjectStore, delivery: str | None = None) -> Iterator[bytes]:
    """`{"id", "input"}`. Before the first piece, and not later, it raises ObjectMissing when a
    picture is gone, and StoreUnavailable."""
    pieces = worker_input(job, objects, delivery)
    return chain([f'{{"id": {json.dumps(job.id)}, "input": '.encode()], pieces, [b"}"])


def worker_input(
    job: Job, objects: ObjectStore, delivery: str | None = None, **more: Any
) -> Iterator[bytes]:
    """`input` alone. `delivery` is where the worker is to leave an edit's pictures: `base64` is in
    its answer; `more` goes beside the pictures. Raises as `worker_job`."""
    parts = _raw_parts(job) if job.kind == RAW else _edit_parts(job, delivery, more)
    pieces = _pieces(parts, objects)
    return chain([next(pieces)], pieces)


@dataclass(frozen=True, slots=True)
class _Object:
    """In place of what an object holds: as base64, or as it is."""

    key: str
    is_json: bool = False


def _raw_parts(job: Job) -> list[bytes | _Object]:
    assert job.input_key is not None
    return [_Object(job.input_key, is_json=True)]


def _edit_parts(job: Job, delivery: str | None, more: dict[str, Any]) -> list[bytes | _Object]:
    fields = {**job.input, "request_id": job.id, **more}
    if delivery is not None:
        fields["output"] = {**fields.get("output", {}), "delivery": delivery}
    parts: list[bytes | _Object] = [json.dumps(fields).encode()[:-1]]
    pictures = job.pictures.get("sent") or job.pictures
    parts.append(b', "images": [')
    for index, entry in enumerate(pictures["images"]):
        name = json.dumps(entry["name"])
        parts.append(f'{", " if index else ""}{{"name": {name}, "image": '.encode())
        parts += _value(entry)
        parts.append(b"}")
    parts.append(b"]")
    if pictures.get("mask"):
        parts += [b', "mask": ', *_value(pictures["mask"])]
    return [*parts, b"}"]


def _value(entry: dict[str, Any]) -> list[bytes | _Object]:
    if "address" in entry:
        return [json.dumps(entry["address"]).encode()]
    return [b'"', _Object(entry["key"]), b'"']


def _pieces(parts: list[bytes | _Object], objects: ObjectStore) -> Iterator[bytes]:
    with ExitStack() as stack:
        # All before the first piece: a store that fails amid them would cut the job off.
        opened = [
            part if isinstance(part, bytes) else stack.enter_context(objects.open(part.key))
            for part in parts
        ]
        for part, data in zip(parts, opened, strict=True):
            if isinstance(data, bytes):
                yield data
                continue
            is_json = isinstance(part, _Object) and part.is_json
            while chunk := data.read(_CHUNK_BYTES):
                yield chunk if is_json else base64.b64encode(chunk)
