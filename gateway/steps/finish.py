"""From a worker's answer to the stored picture: the last step of every job that ran well."""

import base64
import binascii
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from gateway.clock import Clock
from gateway.edit.masked import check_unchanged, put_back
from gateway.errors import GatewayError, InputGone, InvalidOutput, Unavailable
from gateway.job import RAW, Fault, Job, JobState, NotStored, Stored, TryFailed
from gateway.objects import ObjectMissing, ObjectStore
from gateway.store.jobs import JobStore
from handler.logs import get_logger
from handler.pictures import DECODER_ERRORS

_LEASE_MS = 60_000
_AGAIN_MS = 5_000
_MOST_PICTURES = 100

_EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif"}
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}

Fetch = Callable[[str], bytes]
"""The picture at an address that a worker has given. Raises Unavailable, and InvalidOutput when it
is gone for good."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class _Found:
    filename: str
    data: bytes


class Finisher:
    def __init__(
        self,
        store: JobStore,
        objects: ObjectStore,
        clock: Clock,
        fetch: Fetch,
        result_prefix: str,
        process: str,
    ) -> None:
        self._store = store
        self._objects = objects
        self._clock = clock
        self._fetch = fetch
        self._prefix = result_prefix
        self._process = process

    def step(self, most: int = 4) -> int:
        """Finishes what a process has begun and not ended."""
        now = self._clock.now()
        claimed = self._store.claim(
            [JobState.FINISHING], now=now, by=self._process, lease_until=now + _LEASE_MS, most=most
        )
        for job in claimed:
            self.finish(job)
        return len(claimed)

    def finish(self, job: Job, answer: Any = None) -> Job | None:
        """`job` is held by this process; `answer` is what lies under its `output_key`, if it is at
        hand. None when another has finished it."""
        try:
            stored = self._store_pictures(job, answer if answer is not None else self._load(job))
            event: Stored | TryFailed | NotStored = stored
        except Unavailable as exc:
            log.warning("result not stored", job_id=job.id, code=exc.code, message=exc.message)
            event = NotStored(self._clock.now() + _AGAIN_MS)
        except GatewayError as exc:
            log.warning("result refused", job_id=job.id, code=exc.code, message=exc.message)
            event = TryFailed(Fault(exc.code, exc.message, exc.retryable))
        except ObjectMissing:
            event = TryFailed(Fault(InvalidOutput.code, "the worker's answer is gone", True))
        ended = self._store.settle(job, event, self._clock.now())
        if isinstance(event, Stored):
            self._tidy(job, event, ended)
        return ended

    def _tidy(self, job: Job, stored: Stored, ended: Job | None) -> None:
        """What nobody will ask for: the answer, and pictures of a holder that did not count."""
        mine = [entry["key"] for entry in stored.results or ()]
        folder = f"{self._prefix}{job.id}/"
        try:
            if ended is None:
                for key in mine:
                    self._objects.delete(key)
            elif job.kind != RAW:
                self._objects.delete(f"outputs/{job.id}")
                for name, _ in list(self._objects.folders(folder)):
                    if f"{folder}{name}" not in mine:
                        self._objects.delete(f"{folder}{name}")
        except Unavailable as exc:
            log.warning("left behind", job_id=job.id, code=exc.code, message=exc.message)

    def _load(self, job: Job) -> Any:
        assert job.output_key is not None
        with self._objects.open(job.output_key) as file:
            return json.load(file)

    def _store_pictures(self, job: Job, answer: Any) -> Stored:
        if job.kind == RAW:
            return Stored(None, None)
        output = answer.get("output") if isinstance(answer, Mapping) else None
        if not isinstance(output, Mapping):
            raise InvalidOutput("the worker's answer has no output")
        said = output.get("pixels_changed_outside")
        found, changed = self._in_place(job, self._pictures(output), said)
        results = [self._put(job, index, picture) for index, picture in enumerate(found)]
        first = results[0]
        seed, timings = output.get("seed"), output.get("timings")
        return Stored(
            first["key"], results, first["width"], first["height"], first["sha256"],
            pixels_changed_outside=changed,
            seed=seed if isinstance(seed, int) and 0 <= seed < 2**64 else None,
            timings=self._timings(job, timings if isinstance(timings, Mapping) else {}),
        )  # fmt: skip

    def _in_place(
        self, job: Job, found: list[_Found], said: Any
    ) -> tuple[list[_Found], int | None]:
        """A masked job's first picture as the whole photo, and how much changed outside the mask:
        0, or nothing is delivered. None without a mask. `said` is what the worker has counted."""
        pictures = job.pictures or {}
        if not pictures.get("mask"):
            return found, None
        if "box" not in pictures:
            # The worker has cut it, and counted.
            if type(said) is not int:
                raise InvalidOutput("the worker does not say what changed outside the mask")
            check_unchanged(said)
            return found, 0
        photo, mask = (
            self._read(entry["key"]) for entry in (pictures["images"][0], pictures["mask"])
        )
        data, changed = put_back(photo, mask, pictures["box"], found[0].data)
        return [_Found(found[0].filename, data), *found[1:]], changed

    def _read(self, key: str) -> bytes:
        try:
            with self._objects.open(key) as file:
                return file.read()
        except ObjectMissing as exc:
            raise InputGone("a picture of the job is no longer there") from exc

    def _pictures(self, output: Mapping[str, Any]) -> list[_Found]:
        entries = output.get("images")
        if not isinstance(entries, list) or not entries:
            raise InvalidOutput("the worker's answer has no picture")
        return [self._picture(entry) for entry in entries[:_MOST_PICTURES]]

    def _picture(self, entry: Any) -> _Found:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("data"), str):
            raise InvalidOutput("a picture of the worker's answer has no data")
        name = str(entry.get("filename") or "picture")[:255]
        if entry.get("type") == "s3_url":
            return _Found(name, self._fetch(entry["data"]))
        try:
            return _Found(name, base64.b64decode(entry["data"], validate=True))
        except (binascii.Error, ValueError) as exc:
            raise InvalidOutput("a picture of the worker's answer is not base64") from exc

    def _put(self, job: Job, index: int, found: _Found) -> dict[str, Any]:
        try:
            with Image.open(io.BytesIO(found.data), formats=list(_EXTENSIONS)) as picture:
                kind, (width, height) = str(picture.format), picture.size
                _check_whole(picture)
        except DECODER_ERRORS as exc:
            raise InvalidOutput("what the worker has answered is no whole picture") from exc
        # No two holders have the same fence: nobody writes over the picture that counts.
        key = f"{self._prefix}{job.id}/{job.fence}-{index}.{_EXTENSIONS[kind]}"
        self._objects.put(key, found.data)
        return {
            "key": key, "filename": found.filename, "width": width, "height": height,
            "sha256": hashlib.sha256(found.data).hexdigest(), "bytes": len(found.data),
            "content_type": _TYPES[kind],
        }  # fmt: skip

    def _timings(self, job: Job, worker: Mapping[str, Any]) -> dict[str, Any]:
        """In milliseconds: the worker's own phases, and what passed around them."""
        began = job.started_at or job.created_at
        return {
            "queue": began - job.created_at,
            "run": job.updated_at - began,
            "store": self._clock.now() - job.updated_at,
            "worker": {str(name): value for name, value in worker.items()},
        }


def _check_whole(picture: Image.Image) -> None:
    """Raises what Pillow raises. `picture` is freshly opened, as `verify` needs it."""
    if picture.format == "PNG":
        # By its checksums: far cheaper than decoding.
        picture.verify()
        return
    width, height = picture.size
    # A JPEG is read whole all the same.
    picture.draft(None, (max(1, width // 8), max(1, height // 8)))
    picture.load()
