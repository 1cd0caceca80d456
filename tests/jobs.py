"""Jobs for tests, and a clock that stands still."""

from dataclasses import replace
from typing import Any

from gateway.job import EDIT, FINAL, Job, JobState, new_job_id

NOW = 1_800_000_000_000


class FakeClock:
    def __init__(self, at: int = NOW) -> None:
        self.at = at

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000


def make_job(**values: Any) -> Job:
    """One that could be: an ended job has an end."""
    at = values.get("created_at", NOW)
    if values.get("state") in FINAL:
        values.setdefault("finished_at", at)
    defaults: dict[str, Any] = {
        "id": new_job_id(at), "owner": "ann", "body_hash": "0" * 64, "kind": EDIT, "due_at": at,
        "request_id": None, "created_at": at, "updated_at": at, "state": JobState.QUEUED,
    }  # fmt: skip
    return replace(Job(**{**defaults, **values}))
