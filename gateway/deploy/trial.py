"""One real edit on an endpoint: does it answer, how long did it take, what came back."""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.deploy.errors import DeployFailed
from gateway.runpod.client import RunPodClient
from gateway.runpod.errors import NotFound, RunPodError

_PROMPT = "Make it a watercolour painting."
_LOOK_AGAIN_S = 3.0
_VISIBLE_AFTER_S = 60.0
_FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})


@dataclass(frozen=True, slots=True)
class Edit:
    """`picture` is None where it went to a bucket: `address` then. Times are RunPod's own, in ms:
    in the queue, a cold start included, and in the worker."""

    job_id: str
    picture: bytes | None
    address: str | None
    delay_ms: int | None
    execution_ms: int | None


async def try_edit(
    client: RunPodClient,
    endpoint_id: str,
    photo: Path,
    limit_s: float,
    say: Callable[[str], None],
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Edit:
    """Raises DeployFailed, RunPodError."""
    image = base64.b64encode(photo.read_bytes()).decode()
    job = {"input": {"prompt": _PROMPT, "images": [{"name": photo.name, "image": image}]}}
    job_id = await client.run(endpoint_id, json.dumps(job).encode())
    say(f"sent edit {job_id}")
    began, told = monotonic(), ""
    while True:
        waited_s = monotonic() - began
        try:
            status = await client.status(endpoint_id, job_id)
        except NotFound:
            if waited_s > _VISIBLE_AFTER_S:
                raise
            status = {}
        state = str(status.get("status", "not visible yet"))
        if state != told:
            say(f"{state} after {waited_s:.0f} s")
            told = state
        if state in _FINAL:
            return _edit_of(job_id, status)
        if waited_s > limit_s:
            await _cancel(client, endpoint_id, job_id)
            raise DeployFailed(
                f"the edit {job_id} was {state} for {limit_s:g} s and is cancelled; look at the "
                "endpoint's workers and their logs in RunPod's console"
            )
        await sleep(_LOOK_AGAIN_S)


def _edit_of(job_id: str, status: Mapping[str, Any]) -> Edit:
    if status["status"] != "COMPLETED":
        raise DeployFailed(
            f"the edit {job_id} ended as {status['status']}: {str(status.get('error'))[:1000]}"
        )
    output = status.get("output")
    if not isinstance(output, Mapping):
        raise DeployFailed(
            f"the edit {job_id} is COMPLETED and has no output; RunPod drops an answer that is "
            "larger than it takes: set the BUCKET_ variables in [env] and [secrets]"
        )
    encoded, address = output.get("image_base64"), output.get("image_url") or output.get("url")
    picture = None
    if isinstance(encoded, str):
        try:
            picture = base64.b64decode(encoded, validate=True)
        except binascii.Error as exc:
            raise DeployFailed(f"the edit {job_id} came back broken: {exc}") from exc
    elif not isinstance(address, str):
        raise DeployFailed(f"the edit {job_id} is COMPLETED and holds no picture")
    return Edit(
        job_id, picture, address if isinstance(address, str) else None,
        _milliseconds(status.get("delayTime")), _milliseconds(status.get("executionTime")),
    )  # fmt: skip


async def _cancel(client: RunPodClient, endpoint_id: str, job_id: str) -> None:
    try:
        await client.cancel(endpoint_id, job_id)
    except RunPodError:
        return


def _milliseconds(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None
