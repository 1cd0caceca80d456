"""Which event leads from which state to which, and what it changes. Pure: the only place that
decides.

TRANSITIONS names every arrow; an event that is not in it for a state changes nothing, so final
states take none. The store only writes what `advance` has decided.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.errors import Expired, WorkerLost
from gateway.job import (
    RUNPOD,
    CancelAsked,
    Claimed,
    DeadlinePassed,
    Event,
    Fault,
    HolderLost,
    Job,
    JobState,
    NotStored,
    NotTaken,
    Progressed,
    Rerouted,
    ResultArrived,
    Sent,
    Stopped,
    Stored,
    Taken,
    TryFailed,
)

DEFAULT_ATTEMPTS = 3
_FIRST_WAIT_MS = 500
_LONGEST_WAIT_MS = 60_000

_Q, _S, _T, _R, _F = (
    JobState.QUEUED, JobState.SENDING, JobState.SENT, JobState.RUNNING, JobState.FINISHING,
)  # fmt: skip
_OK, _BAD, _OFF = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

TRANSITIONS: Mapping[tuple[JobState, type], tuple[JobState, ...]] = MappingProxyType(
    {
        (_Q, Taken): (_R,),
        (_Q, Rerouted): (_Q,),
        (_Q, Claimed): (_S,),
        (_Q, ResultArrived): (_F,),  # of a holder that was given up too early
        (_Q, CancelAsked): (_OFF,),
        (_Q, Stopped): (_OFF,),
        (_Q, DeadlinePassed): (_BAD,),
        (_S, Claimed): (_S,),  # again, after a crash in between
        (_S, Sent): (_T,),
        (_S, NotTaken): (_Q, _OFF),
        (_S, TryFailed): (_Q, _BAD, _OFF),
        (_S, ResultArrived): (_F,),
        (_S, CancelAsked): (_S,),
        (_S, Stopped): (_OFF,),
        (_T, Progressed): (_R,),
        (_T, ResultArrived): (_F,),
        (_T, TryFailed): (_Q, _BAD, _OFF),
        (_T, HolderLost): (_Q, _BAD, _OFF),
        (_T, CancelAsked): (_T,),
        (_T, Stopped): (_OFF,),
        (_T, DeadlinePassed): (_BAD,),
        (_R, NotTaken): (_Q, _OFF),
        (_R, Progressed): (_R,),
        (_R, ResultArrived): (_F,),
        (_R, TryFailed): (_Q, _BAD, _OFF),
        (_R, HolderLost): (_Q, _BAD, _OFF),
        (_R, CancelAsked): (_R,),
        (_R, Stopped): (_OFF,),
        (_F, Stored): (_OK,),
        (_F, NotStored): (_F,),
        (_F, TryFailed): (_Q, _BAD, _OFF),
    }
)


@dataclass(frozen=True, slots=True)
class Change:
    """What to write where the row is still as it was read: id, state and fence. `values` are
    columns, `note` is for the row of `job_events`; None writes none."""

    job_id: str
    state: JobState
    fence: int
    values: Mapping[str, Any]
    note: str | None

    @property
    def new_state(self) -> JobState:
        return JobState(self.values.get("state", self.state))

    @property
    def is_final(self) -> bool:
        return self.new_state.is_final


def advance(job: Job, event: Event, now: int, attempts: int = DEFAULT_ATTEMPTS) -> Change | None:
    """The change that the event means for the job; None where it means nothing.

    `attempts` is how often a job is tried before it fails for good.
    """
    allowed = TRANSITIONS.get((job.state, type(event)))
    if allowed is None:
        return None
    values = _RULES[type(event)](job, event, now, attempts)
    state = values["state"] = JobState(values.get("state", job.state))
    if state not in allowed:
        raise AssertionError(f"{job.state} by {type(event).__name__} to {state} is no transition")
    if state.is_final:
        values |= {"finished_at": now, "lease_until": 0, "lease_owner": None}
        values |= {"phase": None, "waiting_for": None}
    # A caller sees the progress in the job; as history it is worth nothing.
    is_news = state != job.state or not isinstance(event, Progressed)
    note = _note(event) if is_news else None
    return Change(job.id, job.state, job.fence, values | {"updated_at": now}, note)


def retry_wait_ms(job_id: str, attempt: int) -> int:
    """Doubles from half a second to a minute; spread over its upper half by the job's id."""
    longest = min(_LONGEST_WAIT_MS, _FIRST_WAIT_MS * 2**attempt)
    share = int.from_bytes(hashlib.sha256(f"{job_id}{attempt}".encode()).digest()[:4]) / 2**32
    return int(longest * (0.5 + share / 2))


def _taken(_job: Job, event: Taken, now: int, _attempts: int) -> dict[str, Any]:
    return {
        "state": _R, "lease_owner": event.worker, "lease_until": event.lease_until,
        "due_at": event.lease_until, "fence": _job.fence + 1, "started_at": now,
        "phase": None, "percent": None, "waiting_for": None,
    }  # fmt: skip


def _rerouted(_job: Job, event: Rerouted, now: int, _attempts: int) -> dict[str, Any]:
    return {
        "backend": event.backend, "due_at": now, "lease_until": 0, "lease_owner": None,
        "waiting_for": None,
    }  # fmt: skip


def _claimed(_job: Job, event: Claimed, _now: int, _attempts: int) -> dict[str, Any]:
    return {
        "state": _S, "backend": RUNPOD, "endpoint_id": event.endpoint_id,
        "hook_token_hash": event.hook_token_hash, "remote_id": None, "waiting_for": None,
    }  # fmt: skip


def _sent(_job: Job, event: Sent, _now: int, _attempts: int) -> dict[str, Any]:
    return {"state": _T, "remote_id": event.remote_id, "due_at": event.look_at, "lease_until": 0}


def _not_taken(job: Job, event: NotTaken, _now: int, _attempts: int) -> dict[str, Any]:
    if job.cancel_asked_at is not None:
        return {"state": _OFF}
    return {
        "state": _Q, "due_at": event.again_at, "lease_until": 0, "lease_owner": None,
        "started_at": None, "waiting_for": event.waiting_for,
    }  # fmt: skip


def _progressed(job: Job, event: Progressed, now: int, _attempts: int) -> dict[str, Any]:
    values: dict[str, Any] = {"state": _R, "phase": event.phase, "waiting_for": None}
    if event.percent is not None:
        values["percent"] = max(event.percent, job.percent or 0)
    if job.state is not _R:
        values["started_at"] = now
    if event.lease_until is not None:
        values |= {"lease_until": event.lease_until, "due_at": event.lease_until}
    if event.look_at is not None:
        values |= {"lease_until": 0, "due_at": event.look_at}
    return values


def _result_arrived(job: Job, event: ResultArrived, now: int, _attempts: int) -> dict[str, Any]:
    """The fence is moved on, so that a holder of the job finds its claim gone."""
    return {
        "state": _F, "output_key": event.output_key, "due_at": now,
        "lease_until": event.lease_until, "lease_owner": event.by, "fence": job.fence + 1,
        "started_at": job.started_at or now,
        "phase": "store", "percent": 99,
    }  # fmt: skip


def _try_failed(job: Job, event: TryFailed, now: int, attempts: int) -> dict[str, Any]:
    return _again_or_failed(job, event.fault, now, attempts)


def _holder_lost(job: Job, event: HolderLost, now: int, attempts: int) -> dict[str, Any]:
    return _again_or_failed(job, Fault(WorkerLost.code, event.message, True), now, attempts)


def _stored(job: Job, event: Stored, _now: int, _attempts: int) -> dict[str, Any]:
    return {
        "state": _OK, "result_key": event.result_key, "results": event.results,
        "width": event.width, "height": event.height, "sha256": event.sha256,
        "pixels_changed_outside": event.pixels_changed_outside, "percent": 100,
        "seed": job.seed if event.seed is None else event.seed,
        "timings": job.timings if event.timings is None else event.timings,
        "error_code": None, "error_message": None, "error_retryable": None,
    }  # fmt: skip


def _not_stored(_job: Job, event: NotStored, _now: int, _attempts: int) -> dict[str, Any]:
    return {"due_at": event.again_at, "lease_until": 0, "lease_owner": None}


def _cancel_asked(job: Job, _event: CancelAsked, now: int, _attempts: int) -> dict[str, Any]:
    """Whoever holds it is not disturbed: a claim that is stolen loses RunPod's id of the job."""
    if job.state is _Q:
        return {"state": _OFF, "cancel_asked_at": now}
    asked = {"cancel_asked_at": job.cancel_asked_at or now}
    return asked if job.backend != RUNPOD else asked | {"due_at": now, "wake": True}


def _stopped(_job: Job, _event: Stopped, _now: int, _attempts: int) -> dict[str, Any]:
    return {"state": _OFF}


def _deadline_passed(job: Job, _event: DeadlinePassed, now: int, _attempts: int) -> dict[str, Any]:
    waited_s = (now - job.created_at) // 1000
    return _failed(Fault(Expired.code, f"no worker took the job within {waited_s} s", True))


def _again_or_failed(job: Job, fault: Fault, now: int, attempts: int) -> dict[str, Any]:
    if job.cancel_asked_at is not None:
        return {"state": _OFF}
    tried = job.attempt + 1
    if not fault.retryable or tried >= attempts:
        return _failed(fault) | {"attempt": tried}
    return {
        "state": _Q, "attempt": tried, "due_at": now + retry_wait_ms(job.id, job.attempt),
        "fence": job.fence + 1, "lease_until": 0, "lease_owner": None, "remote_id": None,
        "hook_token_hash": None, "output_key": None, "started_at": None, "phase": None,
        "percent": None, "error_code": fault.code, "error_message": fault.message,
        "error_retryable": True,
    }  # fmt: skip


def _failed(fault: Fault) -> dict[str, Any]:
    return {
        "state": _BAD, "error_code": fault.code, "error_message": fault.message,
        "error_retryable": fault.retryable,
    }  # fmt: skip


def _note(event: Event) -> str:
    fault = getattr(event, "fault", None)
    name = type(event).__name__
    return f"{name}: {fault.code}" if fault else name


_RULES: Mapping[type, Callable[[Job, Any, int, int], dict[str, Any]]] = MappingProxyType(
    {
        Taken: _taken,
        Rerouted: _rerouted,
        Claimed: _claimed,
        Sent: _sent,
        NotTaken: _not_taken,
        Progressed: _progressed,
        ResultArrived: _result_arrived,
        TryFailed: _try_failed,
        HolderLost: _holder_lost,
        Stored: _stored,
        NotStored: _not_stored,
        CancelAsked: _cancel_asked,
        Stopped: _stopped,
        DeadlinePassed: _deadline_passed,
    }
)
