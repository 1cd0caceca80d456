"""What a job is: its states, its row, and what can happen to it. Pure.

Times are integers, milliseconds since 1970, UTC.
"""

import os
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OWN, RUNPOD, DEMO = "own", "runpod", "demo"
"""What `Job.backend` may be. A job that waits has the one that it waits for."""

EDIT, RAW = "edit", "raw"
"""What `Job.kind` may be: a request of the queue API; or an `input` of RunPod's client API, which
passes through unread, as its output does."""


class JobState(StrEnum):
    QUEUED = "QUEUED"
    """Waits for `due_at`."""
    SENDING = "SENDING"
    """A POST to RunPod may have happened: this is written before it."""
    SENT = "SENT"
    """RunPod has it."""
    RUNNING = "RUNNING"
    """On a GPU."""
    FINISHING = "FINISHING"
    """The output is in the store, the picture not yet."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        return self in FINAL

    @property
    def public(self) -> str:
        """What callers see."""
        return _PUBLIC[self]


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
OPEN = tuple(state for state in JobState if state not in FINAL)
_PUBLIC = {
    JobState.QUEUED: "queued",
    JobState.SENDING: "queued",
    JobState.SENT: "queued",
    JobState.RUNNING: "running",
    JobState.FINISHING: "running",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of `jobs`, field for column."""

    id: str
    owner: str
    request_id: str | None
    """Unique for its owner."""
    body_hash: str
    kind: str
    state: JobState = JobState.QUEUED
    attempt: int = 0
    """Tries that failed or were lost."""
    due_at: int
    """When somebody must look next: a worker, the sender, who polls."""
    lease_until: int = 0
    lease_owner: str | None = None
    """The own worker that has it, or the process whose step does."""
    fence: int = 0
    """Counts claims: a write of an earlier holder finds another number."""
    wake: bool = False
    """A hint came while the row was held: look again at once."""
    seq: int = 0
    """Counts changes that a caller can see; the `id:` of the event stream."""
    cancel_asked_at: int | None = None
    deadline_at: int | None = None
    """A job that no worker has taken by then has expired."""
    backend: str = OWN
    endpoint_id: str | None = None
    remote_id: str | None = None
    hook_token_hash: str | None = None
    waiting_for: str | None = None
    """Why it waits, where its place in the queue is not why: `cold_start`, `no_workers`..."""
    service: str | None = None
    prompt: str | None = None
    model: str | None = None
    ratio: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg: float | None = None
    input: Any = None
    """The worker's `input` as JSON, without pictures; those are in `pictures`. None for RAW: there
    it is whole under `input_key`."""
    pictures: Any = None
    """`{"images": [{"name", "key" or "address", "width", "height"}], "mask": {...} or None}`."""
    input_key: str | None = None
    """Where what the caller sent lies in the store; a prefix ending in `/`, or one object."""
    output_key: str | None = None
    """The worker's answer as it came, in the store."""
    result_key: str | None = None
    results: Any = None
    """All pictures: `[{"key", "filename", "width", "height", "sha256", "content_type"}]`."""
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    pixels_changed_outside: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_retryable: bool | None = None
    phase: str | None = None
    percent: int | None = None
    timings: Any = None
    webhook_url: str | None = None
    created_at: int
    updated_at: int
    started_at: int | None = None
    finished_at: int | None = None
    deleted_at: int | None = None
    """When its pictures and texts were removed."""

    @property
    def tries(self) -> int:
        """Tries begun; `attempt` counts those that are over."""
        match self.state:
            case JobState.QUEUED | JobState.FAILED:
                return self.attempt
            case JobState.CANCELLED:
                return self.attempt + (self.started_at is not None)
            case _:
                return self.attempt + 1

    def output_key_for(self, prefix: str = "outputs/") -> str:
        """Another one for each holder, so that nobody writes over another's."""
        return f"{prefix}{self.id}/{self.fence}.json"


def new_job_id(now: int, random: bytes | None = None) -> str:
    """A UUID of version 7 (RFC 9562): sorts by time, 74 bits of it can't be guessed."""
    tail = int.from_bytes(random or os.urandom(10))
    value = (now & (1 << 48) - 1) << 80 | tail & (1 << 80) - 1
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a try failed; `retryable` is whether the same job may succeed elsewhere or later."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """An own worker takes the job, or the demo does."""

    worker: str
    lease_until: int


@dataclass(frozen=True, slots=True)
class Rerouted:
    """Another back end is to run it: it has waited too long for an own GPU, or RunPod takes
    nothing."""

    backend: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """The row is claimed and a POST to RunPod comes next."""

    endpoint_id: str
    hook_token_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """RunPod has taken the job."""

    remote_id: str
    look_at: int
    """When its status is asked first."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """RunPod, or an own worker, has surely not got the job; no try is used up."""

    again_at: int
    waiting_for: str | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """A GPU works on it."""

    phase: str | None
    percent: int | None
    lease_until: int | None = None
    """For own workers, who renew by it."""
    look_at: int | None = None
    """When RunPod's status is asked again."""


@dataclass(frozen=True, slots=True)
class ResultArrived:
    """The worker's answer lies in the store under `output_key`. The first one counts, whoever
    sends it."""

    output_key: str
    by: str | None = None
    """Who makes the picture of it at once; another may do so from `lease_until` on."""
    lease_until: int = 0


@dataclass(frozen=True, slots=True)
class TryFailed:
    """A worker or RunPod says that the try has failed."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class HolderLost:
    """The worker fell silent, or RunPod knows the job no more."""

    message: str = "the worker fell silent"


@dataclass(frozen=True, slots=True)
class Stored:
    """The picture is in the store."""

    result_key: str | None
    results: Any
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    pixels_changed_outside: int | None = None
    seed: int | None = None
    timings: Any = None


@dataclass(frozen=True, slots=True)
class NotStored:
    """The store does not take the picture now: the same answer is tried again."""

    again_at: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """By the caller. A job that nobody runs ends by it; another when it is stopped."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Whoever ran the job has been told to stop, or has done so."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """It has waited too long."""


Event = (
    Taken | Rerouted | Claimed | Sent | NotTaken | Progressed | ResultArrived | TryFailed
    | HolderLost | Stored | NotStored | CancelAsked | Stopped | DeadlinePassed
)  # fmt: skip
