"""From a request to a job: its pictures in the store, then its row, in this order, so that a row
never speaks of a picture that is not there."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from gateway.clock import Clock
from gateway.edit.fields import check_edit, digest_of, prompt_of, sees_whole, worker_fields
from gateway.edit.masked import cut_piece
from gateway.edit.pictures import Finder, Picture, check_file
from gateway.edit.request import CreateRequest
from gateway.errors import InvalidRequest, NotFound, RequestIdTaken, TooManyOpenJobs
from gateway.job import EDIT, OWN, RAW, Job, new_job_id
from gateway.objects import ObjectStore
from gateway.store.jobs import JobStore
from gateway.store.reads import Reads
from gateway.store.uploads import Uploads

INPUTS = "inputs/"
# JavaScript's numbers hold no larger ones, and pages send it back.
_MOST_RANDOM_SEED = 2**53 - 1


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """`backend` is what a new job waits for; times in milliseconds."""

    backend: str = OWN
    queue_ttl_ms: int = 86_400_000
    open_jobs: int = 1000
    result_prefix: str = "results/"


class Creator:
    """Everything it does blocks, so it belongs into threads."""

    def __init__(
        self,
        store: JobStore,
        objects: ObjectStore,
        clock: Clock,
        policy: CreatePolicy,
    ) -> None:
        self._store = store
        self._reads = Reads(store.database)
        self._uploads = Uploads(store.database)
        self._objects = objects
        self._clock = clock
        self._policy = policy

    def create(
        self,
        owner: str,
        request: CreateRequest,
        images: Sequence[tuple[str, BinaryIO]] = (),
        mask: BinaryIO | None = None,
        request_id: str | None = None,
    ) -> tuple[Job, bool]:
        """The job, and whether it is new. `images` and `mask` are files of a multipart body, before
        those that the request names. Raises RequestError and Unavailable."""
        if request.request_id and request_id and request.request_id != request_id:
            raise InvalidRequest("request_id and the header Idempotency-Key differ; send one")
        check_edit(request)
        request_id = request.request_id or request_id
        pictures, mask_picture = self._pictures(owner, request, images, mask)
        digest = digest_of(request, pictures, mask_picture)
        if request_id is not None and (there := self._again(owner, request_id, digest)):
            return there, False
        self._check_open(owner)
        now = self._clock.now()
        job_id = new_job_id(now)
        prefix = f"{INPUTS}{job_id}/"
        try:
            placed = self._put(prefix, pictures, mask_picture)
            if mask_picture is not None and request.is_cut_here:
                placed |= self._cut(prefix, pictures, mask_picture, placed, request)
            job = self._job(job_id, owner, request_id, digest, request, placed, prefix, now)
            made, is_new = self._store.create(job)
        except BaseException:
            self._objects.delete(prefix)
            raise
        if not is_new:
            self._objects.delete(prefix)
        return made, is_new

    def create_raw(
        self, owner: str, input_: Any, backend: str | None = None, webhook_url: str | None = None
    ) -> Job:
        """A job of RunPod's client API: `input` passes through unread."""
        self._check_open(owner)
        now = self._clock.now()
        job_id = new_job_id(now)
        data = json.dumps(input_, ensure_ascii=False).encode("utf-8", "surrogatepass")
        key = f"{INPUTS}{job_id}/input.json"
        self._objects.put(key, data)
        job = Job(
            id=job_id, owner=owner, request_id=None, body_hash=hashlib.sha256(data).hexdigest(),
            kind=RAW, due_at=now, deadline_at=now + self._policy.queue_ttl_ms,
            backend=backend or self._policy.backend, input_key=key, webhook_url=webhook_url,
            created_at=now, updated_at=now,
        )  # fmt: skip
        return self._store.create(job)[0]

    def _pictures(
        self,
        owner: str,
        request: CreateRequest,
        images: Sequence[tuple[str, BinaryIO]],
        mask: BinaryIO | None,
    ) -> tuple[list[Picture], Picture | None]:
        finder = Finder(
            self._objects,
            {
                "upload": lambda value: self._uploads.key_of(owner, value, self._clock.now()),
                "bucket": lambda value: self._bucket_key(owner, value),
            },
        )
        found = [
            check_file(name, file, f"images[{index}]") for index, (name, file) in enumerate(images)
        ]
        for index, entry in enumerate((request.images or ())[len(images) :], len(images)):
            name = entry.name or f"image{index + 1}.png"
            found.append(finder.find(name, entry.image, f"images[{index}]"))
        names = [picture.name for picture in found]
        if len(set(names)) < len(names):
            raise InvalidRequest("images: two pictures have the same name")
        if mask is not None:
            return found, check_file("mask.png", mask, "mask")
        if request.mask is not None:
            return found, finder.find("mask.png", request.mask, "mask")
        return found, None

    def _bucket_key(self, owner: str, key: str) -> str:
        """What lies below a job's id is its owner's only."""
        for prefix in (INPUTS, self._policy.result_prefix):
            if key.startswith(prefix):
                job = self._store.get(key.removeprefix(prefix).partition("/")[0])
                if (job is None and prefix == INPUTS) or (job is not None and job.owner == owner):
                    return key
        raise NotFound(f"there is no {key!r}")

    def _again(self, owner: str, request_id: str, digest: str) -> Job | None:
        there = self._store.get_of_request(owner, request_id)
        if there is not None and there.body_hash != digest:
            raise RequestIdTaken(
                f"request_id {request_id!r} was used with another body, for job {there.id}; send "
                "a new one"
            )
        return there

    def _check_open(self, owner: str) -> None:
        most = self._policy.open_jobs
        if self._reads.open_jobs(owner, most) >= most:
            raise TooManyOpenJobs(
                f"{most} jobs are open, which is the limit; wait for one to end, or cancel one"
            )

    def _put(
        self, prefix: str, pictures: Sequence[Picture], mask: Picture | None
    ) -> dict[str, Any]:
        images = [
            self._put_one(f"{prefix}{index}.{picture.extension}", picture)
            for index, picture in enumerate(pictures)
        ]
        placed: dict[str, Any] = {"images": images, "mask": None}
        if mask is not None:
            placed["mask"] = self._put_one(f"{prefix}mask.{mask.extension}", mask)
        return placed

    def _cut(
        self,
        prefix: str,
        pictures: Sequence[Picture],
        mask: Picture,
        placed: Mapping[str, Any],
        request: CreateRequest,
    ) -> dict[str, Any]:
        """What travels, and where it goes in the photo. A picture at an address is only the
        worker's to see, so then it all travels."""
        if pictures[0].address is not None or mask.address is not None:
            return {}
        piece = cut_piece(pictures[0], mask, whole=sees_whole(request))
        first = placed["images"][0]
        if piece.picture is not None:
            first = self._put_one(f"{prefix}crop.png", piece.picture)
        travels = self._put_one(f"{prefix}crop-mask.png", piece.mask)
        sent = {"images": [first, *placed["images"][1:]], "mask": travels}
        return {"sent": sent, "box": list(piece.box)}

    def _put_one(self, key: str, picture: Picture) -> dict[str, Any]:
        if picture.address is not None:
            return {"name": picture.name, "address": picture.address}
        self._objects.put(key, picture.data)
        return {
            "name": picture.name, "key": key, "width": picture.width, "height": picture.height,
        }  # fmt: skip

    def _job(
        self,
        job_id: str,
        owner: str,
        request_id: str | None,
        digest: str,
        request: CreateRequest,
        placed: Mapping[str, Any],
        prefix: str,
        now: int,
    ) -> Job:
        seed = request.seed
        if seed is None and request.workflow is None:
            # Drawn here, so that a job that is tried again gives the same picture.
            seed = secrets.randbelow(_MOST_RANDOM_SEED + 1)
        return Job(
            id=job_id, owner=owner, request_id=request_id, body_hash=digest, kind=EDIT,
            due_at=now, deadline_at=now + self._policy.queue_ttl_ms,
            backend=self._policy.backend, service=request.service, prompt=prompt_of(request),
            model=request.model, ratio=request.ratio, seed=seed, steps=request.steps,
            cfg=request.cfg, input=worker_fields(request, seed, is_cut="box" in placed),
            pictures=dict(placed), input_key=prefix, webhook_url=request.webhook_url,
            created_at=now, updated_at=now,
        )  # fmt: skip
