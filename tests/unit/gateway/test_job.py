"""Ids, and what a state is for callers."""

import uuid

from gateway.job import FINAL, JobState, new_job_id
from tests.jobs import NOW


def test_a_job_id_is_a_uuid_of_version_7_that_sorts_by_time() -> None:
    first, second = new_job_id(NOW), new_job_id(NOW + 1)
    assert first < second
    parsed = uuid.UUID(first)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == NOW


def test_job_ids_of_one_moment_differ() -> None:
    assert len({new_job_id(NOW) for _ in range(1000)}) == 1000


def test_callers_see_five_states() -> None:
    assert {state.public for state in JobState} == {
        "queued", "running", "succeeded", "failed", "cancelled",
    }  # fmt: skip
    assert all(state.is_final == (state in FINAL) for state in JobState)
