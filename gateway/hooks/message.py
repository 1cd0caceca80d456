"""What a hook says of a job that has ended. Links, not pictures: under 20 kB, as the Standard
Webhooks specification advises. Pure."""

import json
from datetime import UTC, datetime
from typing import Any

from gateway.job import RAW, Job, JobState

MOST_BYTES = 20_000
_RUNPOD_STATES = {
    JobState.SUCCEEDED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
}


def message_of(job: Job, public_url: str, output: Any = None) -> bytes:
    """Of a job of RunPod's client API in RunPod's form, with its `output` if that is small enough;
    of any other `{"type", "timestamp", "data"}`, where `data` has the names of the status."""
    whole = _runpod_form(job, output) if job.kind == RAW else _own_form(job, public_url)
    data = _encoded(whole)
    if len(data) > MOST_BYTES:
        # Both can be asked for by the id.
        whole.pop("output", None)
        whole.get("data", {}).pop("results", None)
        data = _encoded(whole)
    return data


def _own_form(job: Job, public_url: str) -> dict[str, Any]:
    assert job.finished_at is not None
    error = None
    if job.state is JobState.FAILED:
        error = {
            "code": job.error_code, "message": (job.error_message or "")[:1000],
            "retryable": job.error_retryable,
        }  # fmt: skip

    def url(key: str | None) -> str | None:
        return None if key is None else f"{public_url}/api/result/{key}"

    return {
        "type": f"job.{job.state.public}",
        "timestamp": datetime.fromtimestamp(job.finished_at / 1000, UTC).isoformat(),
        "data": {
            "job_id": job.id,
            "request_id": job.request_id,
            "status": job.state.public,
            "attempts": job.tries,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "seed": job.seed,
            "result_key": job.result_key,
            "result_url": url(job.result_key),
            "imageUrl": url(job.result_key),
            "results": [{**entry, "url": url(entry["key"])} for entry in job.results or ()],
            "width": job.width,
            "height": job.height,
            "sha256": job.sha256,
            "pixels_changed_outside": job.pixels_changed_outside,
            "error": error,
        },
    }


def _runpod_form(job: Job, output: Any) -> dict[str, Any]:
    assert job.finished_at is not None
    found: dict[str, Any] = {"id": job.id, "status": _RUNPOD_STATES[job.state]}
    if job.started_at is not None:
        found["delayTime"] = job.started_at - job.created_at
        found["executionTime"] = job.finished_at - job.started_at
    if job.state is JobState.FAILED:
        found["error"] = f"{job.error_code}: {job.error_message or ''}"[:1000]
    if output is not None:
        found["output"] = output
    return found


def _encoded(whole: dict[str, Any]) -> bytes:
    # ASCII: half a surrogate of a worker's text has no UTF-8.
    return json.dumps(whole, ensure_ascii=True, separators=(",", ":")).encode()
