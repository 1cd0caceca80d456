"""The verbs on jobs, on each engine, with what is committed."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from gateway import job as model
from gateway.errors import RequestIdTaken
from gateway.job import OPEN, OWN, RUNPOD, Job, JobState
from gateway.lifecycle import Change, advance
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from gateway.store.tables import hook_deliveries, job_events
from tests.jobs import NOW, make_job

LEASE = NOW + 30_000


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database)


def events_of(store: JobStore, job_id: str) -> list[tuple[int, str]]:
    statement = (
        select(job_events.c.seq, job_events.c.state)
        .where(job_events.c.job_id == job_id)
        .order_by(job_events.c.seq)
    )
    return [tuple(row) for row in store.database.read(lambda c: c.execute(statement).all())]


def made(store: JobStore, **values: Any) -> Job:
    job, is_new = store.create(make_job(**values))
    assert is_new
    return job


def take_one(store: JobStore, worker: str = "gpu", now: int = NOW) -> Job:
    (job,) = store.take(worker, 1, now, now + 30_000)
    return job


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(count)

    def run(index: int) -> Any:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_a_created_job_comes_back_as_it_was(store: JobStore) -> None:
    job = made(
        store, seed=2**64 - 1, cfg=2.5, prompt="ทำให้เป็นสีน้ำ", request_id="order-17",
        input={"prompt": "x"}, pictures={"images": []},
    )  # fmt: skip
    assert store.get(job.id) == job
    assert store.get_of_request("ann", "order-17") == job
    assert job.seed == 2**64 - 1
    assert events_of(store, job.id) == [(1, "QUEUED")]


def test_the_same_request_gives_the_job_that_was_there(store: JobStore) -> None:
    first = made(store, request_id="order-17")
    again, is_new = store.create(make_job(request_id="order-17"))
    assert (again, is_new) == (first, False)
    with pytest.raises(RequestIdTaken):
        store.create(make_job(request_id="order-17", body_hash="1" * 64))


def test_request_ids_of_two_owners_do_not_meet(store: JobStore) -> None:
    made(store, request_id="order-17")
    made(store, request_id="order-17", owner="bob")


def test_of_eight_that_create_the_same_request_one_is_first(store: JobStore) -> None:
    answers = in_threads(8, lambda _: store.create(make_job(request_id="order-17")))
    assert sum(is_new for _, is_new in answers) == 1
    assert len({job.id for job, _ in answers}) == 1


def test_no_job_is_taken_twice(store: JobStore) -> None:
    ids = {made(store).id for _ in range(60)}

    def take_all(worker: int) -> list[str]:
        taken: list[str] = []
        while jobs := store.take(f"gpu-{worker}", 3, NOW, LEASE):
            taken += [job.id for job in jobs]
        return taken

    lists = in_threads(4, take_all)
    taken = [job_id for one in lists for job_id in one]
    assert len(taken) == len(set(taken))
    # A row that another held when it was looked for stays for the next.
    assert set(taken) | {job.id for job in store.take("last", 60, NOW, LEASE)} == ids


def test_the_oldest_due_job_is_taken_first_and_one_not_yet_due_is_left(store: JobStore) -> None:
    later = made(store, due_at=NOW + 5)
    young, old = made(store, due_at=NOW), made(store, due_at=NOW - 5)
    assert [job.id for job in store.take("gpu", 9, NOW, LEASE)] == [old.id, young.id]
    assert [job.id for job in store.take("gpu", 9, NOW + 5, LEASE)] == [later.id]


def test_a_job_for_runpod_is_not_for_own_workers(store: JobStore) -> None:
    made(store, backend=RUNPOD)
    assert store.take("gpu", 1, NOW, LEASE) == []


def test_a_change_is_refused_when_the_row_has_moved_on(store: JobStore) -> None:
    made(store)
    job = take_one(store)
    failed = advance(job, model.TryFailed(model.Fault("x", "y", True)), NOW)
    assert store.apply(advance(job, model.ResultArrived("outputs/1"), NOW)) is not None
    assert store.apply(failed) is None
    assert [state for _, state in events_of(store, job.id)] == ["QUEUED", "RUNNING", "FINISHING"]


def test_a_change_with_an_older_fence_is_refused(store: JobStore) -> None:
    made(store, backend=RUNPOD)
    (first,) = store.claim([JobState.QUEUED], now=NOW, by="a", lease_until=NOW + 10, most=1)
    (second,) = store.claim([JobState.QUEUED], now=NOW + 10, by="b", lease_until=NOW + 20, most=1)
    assert second.fence == first.fence + 1
    assert store.apply(advance(first, model.Claimed("endpoint"), NOW + 11)) is None
    assert store.apply(advance(second, model.Claimed("endpoint"), NOW + 11)) is not None


def test_an_applied_change_and_its_event_and_hook_are_one(store: JobStore) -> None:
    job = made(store, webhook_url="https://example.com/hook")
    ended = store.cancel(job.id, NOW + 7)
    assert ended is not None
    assert ended.state is JobState.CANCELLED
    assert events_of(store, job.id)[-1] == (2, "CANCELLED")
    rows = store.database.read(lambda c: c.execute(select(hook_deliveries)).all())
    assert [(row.job_id, row.url, row.due_at) for row in rows] == [
        (job.id, "https://example.com/hook", NOW + 7)
    ]


def test_a_change_that_breaks_the_table_leaves_nothing_behind(store: JobStore) -> None:
    job = made(store)
    # The table knows that an ended job has an end.
    broken = Change(job.id, job.state, job.fence, {"state": "FAILED", "updated_at": NOW}, "Broken")
    with pytest.raises(IntegrityError):
        store.apply(broken)
    assert store.get(job.id) == job
    assert len(events_of(store, job.id)) == 1


def test_of_eight_that_record_the_end_one_is_first(store: JobStore) -> None:
    job = made(store)
    answers = in_threads(8, lambda _: store.cancel(job.id, NOW))
    assert sum(answer is not None for answer in answers) == 1


def test_claims_are_exclusive_until_the_lease_is_over(store: JobStore) -> None:
    ids = {made(store, backend=RUNPOD).id for _ in range(40)}
    claims = in_threads(
        4,
        lambda index: store.claim(
            [JobState.QUEUED], now=NOW, by=f"p{index}", lease_until=LEASE, most=10
        ),
    )
    got = [job.id for one in claims for job in one]
    assert len(got) == len(set(got))
    rest = store.claim([JobState.QUEUED], now=NOW, by="last", lease_until=LEASE, most=40)
    assert set(got) | {job.id for job in rest} == ids
    assert store.claim(OPEN, now=LEASE - 1, by="x", lease_until=LEASE, most=99) == []
    assert len(store.claim(OPEN, now=LEASE, by="x", lease_until=LEASE + 1, most=99)) == 40


def test_a_released_row_waits_until_it_is_due(store: JobStore) -> None:
    made(store, backend=RUNPOD)
    (job,) = store.claim([JobState.QUEUED], now=NOW, by="a", lease_until=LEASE, most=1)
    assert store.release(job, NOW + 2000, NOW, waiting_for="no_workers")
    assert store.claim([JobState.QUEUED], now=NOW + 1999, by="a", lease_until=LEASE, most=1) == []
    (again,) = store.claim([JobState.QUEUED], now=NOW + 2000, by="a", lease_until=LEASE, most=1)
    assert again.waiting_for == "no_workers"
    assert not store.release(job, NOW, NOW), "its claim was over"


def test_a_hint_that_comes_while_the_row_is_held_is_not_lost(store: JobStore) -> None:
    made(store, backend=RUNPOD)
    (job,) = store.claim([JobState.QUEUED], now=NOW, by="a", lease_until=LEASE, most=1)
    assert store.look_now(job.id, NOW + 1)
    assert store.release(job, NOW + 9000, NOW + 2)
    assert store.claim([JobState.QUEUED], now=NOW + 2, by="a", lease_until=LEASE, most=1)


def test_a_hint_for_an_ended_job_is_nothing(store: JobStore) -> None:
    job = made(store)
    store.cancel(job.id, NOW)
    assert not store.look_now(job.id, NOW)


def test_a_worker_renews_only_what_it_still_has(store: JobStore) -> None:
    made(store), made(store)
    mine, other = take_one(store, "gpu-1"), take_one(store, "gpu-2")
    assert store.renew("gpu-1", [mine.id, other.id, "unknown"], LEASE + 5000) == {mine.id}
    assert store.lose_silent(LEASE, 9)[0].id == other.id
    assert [job.id for job in store.lose_silent(LEASE + 5000, 9)] == [mine.id]


def test_a_silent_workers_job_goes_to_another_and_fails_when_no_try_is_left(
    store: JobStore,
) -> None:
    job = made(store)
    at = NOW
    for attempt in range(3):
        taken = take_one(store, f"gpu-{attempt}", at)
        assert taken.id == job.id
        at = taken.lease_until
        (lost,) = store.lose_silent(at, 9)
        at = max(at, lost.due_at)
    assert lost.state is JobState.FAILED
    assert (lost.error_code, lost.error_retryable) == ("worker_lost", True)


def test_the_cancel_of_a_running_job_is_on_its_workers_stop_list(store: JobStore) -> None:
    made(store)
    job = take_one(store, "gpu-1")
    asked = store.cancel(job.id, NOW + 1)
    assert asked is not None
    assert asked.state is JobState.RUNNING
    assert [found.id for found in store.stop_list("gpu-1")] == [job.id]
    assert store.stop_list("gpu-2") == []
    assert store.cancel(job.id, NOW + 2) is None, "it was asked before"


def test_a_job_that_waits_past_its_deadline_has_expired(store: JobStore) -> None:
    job, other = made(store, deadline_at=NOW + 10), made(store, deadline_at=NOW + 11)
    (expired,) = store.expire(model.DeadlinePassed(), NOW + 10, 9)
    assert (expired.id, expired.error_code) == (job.id, "expired")
    assert store.get(other.id) == other


def test_the_only_process_frees_claims_and_gives_workers_time(store: JobStore) -> None:
    made(store), made(store, backend=RUNPOD)
    own = take_one(store)
    store.claim([JobState.QUEUED], now=NOW, by="dead", lease_until=LEASE, most=1, backend=RUNPOD)
    assert store.free_leases(LEASE + 1, LEASE + 30_000) == 1
    assert store.lose_silent(LEASE + 1, 9) == []
    assert store.claim([JobState.QUEUED], now=LEASE + 1, by="b", lease_until=LEASE + 9, most=1)
    found = store.get(own.id)
    assert found is not None
    assert found.lease_owner == "gpu"


def test_those_who_wait_hear_of_every_change(database: Database) -> None:
    heard: list[Job] = []
    store = JobStore(database, hear=heard.append)
    job = made(store)
    taken = take_one(store)
    ended = store.record(job.id, model.Stopped(), NOW)
    assert heard == [job, taken, ended]
    assert replace(heard[0], seq=1) == heard[0]
    assert [one.seq for one in heard] == [1, 2, 3]
    assert heard[1].backend == OWN
