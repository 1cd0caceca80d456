"""The verbs on jobs that RunPod runs, on each engine."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.job import FINAL, OWN, RUNPOD, Job, JobState
from gateway.store.cloud import CloudRows
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from gateway.store.reads import Reads
from tests.jobs import NOW, make_job

AT_RUNPOD = (JobState.SENT, JobState.RUNNING)


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def rows(database: Database) -> CloudRows:
    return CloudRows(database)


def made(store: JobStore, **values: Any) -> Job:
    job, is_new = store.create(make_job(**{"backend": RUNPOD, **values}))
    assert is_new
    return job


def read(store: JobStore, job: Job) -> Job:
    found = store.get(job.id)
    assert found is not None
    return found


def test_jobs_whose_status_must_be_asked_for_are_counted(store: JobStore, rows: CloudRows) -> None:
    for state in JobState:
        made(store, state=state)
    made(store, state=JobState.RUNNING, backend=OWN)
    assert rows.open_count() == 2


@pytest.mark.parametrize(
    ("values", "is_due"),
    [
        ({}, True),
        ({"due_at": NOW + 1}, False),
        ({"lease_until": NOW + 1}, False),
        ({"state": JobState.QUEUED}, False),
        ({"backend": OWN}, False),
    ],
)
def test_a_look_tells_whether_a_claim_would_find_any(
    store: JobStore, rows: CloudRows, values: dict[str, Any], is_due: bool
) -> None:
    made(store, **{"state": JobState.SENT, **values})
    assert rows.is_due(AT_RUNPOD, NOW) is is_due
    claimed = store.claim(AT_RUNPOD, now=NOW, by="p", lease_until=NOW + 9, most=5, backend=RUNPOD)
    assert bool(claimed) is is_due


def test_many_claims_are_given_back_at_once_and_a_hint_is_not_lost(
    store: JobStore, rows: CloudRows
) -> None:
    for _ in range(3):
        made(store, state=JobState.SENT)
    first, second, third = store.claim(
        AT_RUNPOD, now=NOW, by="p", lease_until=NOW + 9, most=5, backend=RUNPOD
    )
    store.look_now(second.id, NOW + 1)
    stale = replace(third, fence=third.fence - 1)
    rows.release_all([(first, NOW + 70), (second, NOW + 70), (stale, NOW + 70)], NOW + 2)
    assert (read(store, first).due_at, read(store, first).lease_until) == (NOW + 70, 0)
    assert read(store, second).due_at == NOW + 2
    assert read(store, third).lease_until == NOW + 9


def test_a_claim_is_renewed_only_while_it_is_held(store: JobStore, rows: CloudRows) -> None:
    made(store, state=JobState.SENDING)
    (held,) = store.claim(
        [JobState.SENDING], now=NOW, by="p", lease_until=NOW + 9, most=5, backend=RUNPOD
    )
    rows.renew([held], NOW + 50)
    assert read(store, held).lease_until == NOW + 50
    rows.renew([replace(held, fence=held.fence - 1)], NOW + 90)
    assert read(store, held).lease_until == NOW + 50
    store.release(held, NOW, NOW)
    rows.renew([held], NOW + 90)
    assert read(store, held).lease_until == 0


def test_a_hook_names_runpods_id_only_where_nobody_knows_it(
    store: JobStore, rows: CloudRows
) -> None:
    lost = made(store, state=JobState.SENDING, hook_token_hash="a" * 64, due_at=NOW + 99)
    known = made(store, state=JobState.SENT, remote_id="r-1", hook_token_hash="b" * 64)
    assert rows.hear_hook("a" * 64, "r-9", NOW) == lost.id
    assert rows.hear_hook("b" * 64, "r-8", NOW) == known.id
    assert rows.hear_hook("c" * 64, "r-7", NOW) is None
    assert (read(store, lost).remote_id, read(store, lost).due_at) == ("r-9", NOW)
    assert (read(store, known).remote_id, read(store, known).wake) == ("r-1", True)
    rows.hear_hook("a" * 64, "r-10", NOW)
    assert read(store, lost).remote_id == "r-9"


@pytest.mark.parametrize("state", FINAL)
def test_a_hook_of_an_ended_job_changes_nothing(
    store: JobStore, rows: CloudRows, state: JobState
) -> None:
    job = made(store, state=state, hook_token_hash="a" * 64)
    assert rows.hear_hook("a" * 64, "r-1", NOW + 5) is None
    assert read(store, job) == job


def test_why_jobs_wait_is_written_once_and_told_to_who_watches(
    store: JobStore, rows: CloudRows, database: Database
) -> None:
    waits = made(store, state=JobState.SENT, created_at=NOW - 100)
    young = made(store, state=JobState.SENT)
    own = made(store, backend=OWN, created_at=NOW - 100)
    assert rows.note_waiting(AT_RUNPOD, "no_workers", NOW - 50, NOW) == 1
    assert rows.note_waiting(AT_RUNPOD, "no_workers", NOW - 50, NOW) == 0
    assert read(store, waits).waiting_for == "no_workers"
    assert (read(store, young).waiting_for, read(store, own).waiting_for) == (None, None)
    assert len(Reads(database).events_after(waits.id, 1)) == 1
    assert rows.note_waiting(AT_RUNPOD, None, NOW, NOW) == 1
    assert read(store, waits).waiting_for is None
    assert rows.waits_since([JobState.SENT]) == NOW - 100
    assert rows.waits_since([JobState.QUEUED]) is None


def test_no_more_jobs_are_sent_in_a_day_than_allowed(rows: CloudRows) -> None:
    midnight = NOW - NOW % 86_400_000
    assert [rows.count_send(midnight + at, 3) for at in range(5)] == [True] * 3 + [False] * 2
    assert rows.count_send(midnight + 5, None)
    assert not rows.count_send(midnight + 86_399_999, 3)
    assert rows.count_send(midnight + 86_400_000, 3)
    assert not rows.count_send(midnight + 86_400_000, 0)


def test_what_waits_too_long_for_an_own_gpu_is_runpods(store: JobStore) -> None:
    late = made(store, backend=OWN, due_at=NOW - 30_000)
    made(store, backend=OWN, due_at=NOW - 10_000)
    taken = made(store, backend=OWN, due_at=NOW - 40_000)
    assert [job.id for job in store.take("gpu", 1, NOW, NOW + 9)] == [taken.id]
    assert [job.id for job in store.overflow(NOW, NOW - 20_000, 10)] == [late.id]
    assert (read(store, late).backend, read(store, late).due_at) == (RUNPOD, NOW)
    assert read(store, taken).state == JobState.RUNNING
    assert late.id not in {job.id for job in store.take("gpu", 9, NOW, NOW + 9)}


def test_every_open_job_can_be_made_due(store: JobStore, rows: CloudRows) -> None:
    for state in JobState:
        made(store, state=state, due_at=NOW + 99)
    assert rows.look_at_all(NOW) == 5
