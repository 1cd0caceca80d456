"""A job as RunPod takes it: a request of at most 10 MB. Pictures that do not fit go by address."""

import json
from dataclasses import dataclass, replace
from typing import Any

from gateway.edit.worker_input import worker_input
from gateway.errors import InputTooLarge
from gateway.job import RAW, Job
from gateway.objects import ObjectStore
from gateway.runpod.client import MOST_REQUEST_BYTES
from gateway.runpod.tokens import Tokens

# RunPod's bounds of both times.
_LEAST_TTL_MS, _MOST_MS = 10_000, 7 * 86_400_000
# The worker's own limit is lower, so it is the worker that says why a job took too long.
_RUN_MS = 900_000
_RUN_MARGIN_MS = 60_000
_FRAME_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Submission:
    """Blocks, so it belongs into threads. `public_url` is where RunPod reaches this gateway."""

    objects: ObjectStore
    tokens: Tokens
    public_url: str | None

    def body(self, job: Job, now: int) -> bytes:
        """Raises InputTooLarge, ObjectMissing when a picture is gone, and StoreUnavailable."""
        run_ms, ttl_ms = _times(job, now)
        frame: dict[str, Any] = {"policy": {"executionTimeout": run_ms, "ttl": ttl_ms}}
        if self.public_url is not None:
            frame["webhook"] = f"{self.public_url}/api/runpod/webhook/{self.tokens.hook(job.id)}"
        if job.kind != RAW:
            job = self._with_addresses(job, now + ttl_ms)
        body = bytearray(json.dumps(frame).encode()[:-1] + b', "input": ')
        for piece in worker_input(job, self.objects):
            body += piece
            if len(body) > MOST_REQUEST_BYTES:
                raise InputTooLarge(
                    f"the job has more than the {MOST_REQUEST_BYTES} bytes that RunPod takes; send "
                    "smaller pictures, or a smaller workflow"
                )
        return bytes(body + b"}")

    def _with_addresses(self, job: Job, until: int) -> Job:
        """The largest pictures by address, until the rest fits."""
        pictures = job.pictures.get("sent") or job.pictures
        entries = [*pictures["images"], *([pictures["mask"]] if pictures.get("mask") else [])]
        sizes = {
            entry["key"]: -(-self.objects.size(entry["key"]) // 3) * 4
            for entry in entries
            if "key" in entry
        }
        room = MOST_REQUEST_BYTES - _FRAME_BYTES - len(json.dumps(job.input))
        total, addresses = sum(sizes.values()), {}
        for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= room:
                break
            addresses[key] = self._address(key, until)
            total -= sizes[key]
        if not addresses:
            return job

        def placed(entry: dict[str, Any]) -> dict[str, Any]:
            address = addresses.get(entry.get("key", ""))
            return {"name": entry["name"], "address": address} if address else entry

        sent = {"images": [placed(entry) for entry in pictures["images"]]}
        mask = placed(pictures["mask"]) if pictures.get("mask") else None
        return replace(job, pictures={**sent, "mask": mask})

    def _address(self, key: str, until: int) -> str:
        address = self.objects.link(key, None, _MOST_MS // 1000)
        if address is None and self.public_url is not None:
            address = f"{self.public_url}/api/runpod/input/{self.tokens.sign(key, until)}"
        if address is None:
            raise InputTooLarge(
                f"the pictures have more than the {MOST_REQUEST_BYTES} bytes that RunPod takes; "
                "send smaller ones, or set BUCKET_* or GATEWAY_PUBLIC_URL so that they travel by "
                "address"
            )
        return address


def _times(job: Job, now: int) -> tuple[int, int]:
    """How long it may run, and how long RunPod may keep it, waiting included."""
    asked_s = (job.input or {}).get("timeout_s")
    run_ms = int(asked_s * 1000) if asked_s else _RUN_MS
    run_ms = min(run_ms + _RUN_MARGIN_MS, _MOST_MS)
    waits_ms = max(0, job.deadline_at - now) if job.deadline_at is not None else _MOST_MS
    return run_ms, min(max(waits_ms + run_ms, _LEAST_TTL_MS), _MOST_MS)
