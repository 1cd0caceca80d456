"""A job as callers see it."""

from typing import Any

from gateway.api.context import Context
from gateway.job import Job, JobState
from gateway.store.hooks import Hooks


def status_of(ctx: Context, job: Job) -> dict[str, Any]:
    """Asks the database for its place in the queue, so it belongs into threads."""
    position = ctx.reads.queue_position(job) if job.state is JobState.QUEUED else None
    return {
        "job_id": job.id,
        "status": job.state.public,
        "phase": job.phase,
        "percent": job.percent,
        "queue_position": position,
        "eta_s": _eta_s(ctx, job, position),
        "waiting_for": _waiting_for(ctx, job),
        "attempts": job.tries,
        "backend": job.backend,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "prompt": job.prompt,
        "model": job.model,
        "ratio": job.ratio,
        "seed": job.seed,
        "steps": job.steps,
        "cfg": job.cfg,
        "result_key": job.result_key,
        "result_url": result_url(ctx, job.result_key),
        "imageUrl": result_url(ctx, job.result_key),
        "results": [{**entry, "url": result_url(ctx, entry["key"])} for entry in job.results or ()],
        "width": job.width,
        "height": job.height,
        "sha256": job.sha256,
        "pixels_changed_outside": job.pixels_changed_outside,
        "error": _error(job),
        "timings": job.timings,
        "webhook": _webhook(ctx, job),
        **_credits(ctx, job),
    }


def _credits(ctx: Context, job: Job) -> dict[str, Any]:
    """`{cost, state}`, where state is `held`, `settled` or `released`; null for a job of a time
    when edits were free, and left out while they are."""
    if not ctx.books.is_on:
        return {}
    cost = ctx.books.cost(job.id)
    match job.state:
        case JobState.SUCCEEDED:
            state = "settled"
        case JobState.FAILED | JobState.CANCELLED:
            state = "released"
        case _:
            state = "held"
    return {"credits": None if cost is None else {"cost": cost, "state": state}}


def result_url(ctx: Context, key: str | None) -> str | None:
    return None if key is None else ctx.url(f"/api/result/{key}")


def _webhook(ctx: Context, job: Job) -> dict[str, Any] | None:
    """How far its delivery is, where one was asked for and the job has ended: `answer` is the
    latest, `next_at` is None when it is over."""
    if job.webhook_url is None or not job.state.is_final:
        return None
    found = Hooks(ctx.store.database).of(job.id)
    if found is None:
        return None
    ended_at = found["ended_at"]
    is_taken = ended_at is not None and str(found["answer"]).startswith("2")
    return {
        "delivered_at": ended_at if is_taken else None,
        "attempts": found["attempts"],
        "answer": found["answer"],
        "next_at": found["due_at"] if ended_at is None else None,
    }


def _error(job: Job) -> dict[str, Any] | None:
    if job.state is not JobState.FAILED:
        return None
    return {
        "code": job.error_code, "message": job.error_message, "retryable": job.error_retryable,
    }  # fmt: skip


def _waiting_for(ctx: Context, job: Job) -> str | None:
    if job.state.public != "queued":
        return None
    if job.waiting_for is not None:
        return job.waiting_for
    if job.backend == "own" and not ctx.workers_in_touch():
        return "no_workers"
    return "retry" if job.due_at > ctx.clock.now() and job.attempt else "queue"


def _eta_s(ctx: Context, job: Job, position: int | None) -> int | None:
    """By how long the latest jobs took; None where nothing is known."""
    if job.state.is_final or (run_ms := ctx.median_run_ms()) is None:
        return None
    if position is None:
        began = job.started_at or ctx.clock.now()
        return max(0, (began + run_ms - ctx.clock.now()) // 1000)
    workers = max(1, len(ctx.workers_in_touch()))
    return -(-position // workers) * run_ms // 1000
