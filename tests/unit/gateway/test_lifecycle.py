"""What may happen to a job, and what each event means for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import job as model
from gateway.job import FINAL, OWN, RUNPOD, Fault, JobState
from gateway.lifecycle import TRANSITIONS, advance, retry_wait_ms
from tests.jobs import NOW, make_job

RETRY = Fault("comfy_exited", "ComfyUI ended", True)
FINAL_FAULT = Fault("invalid_image", "no picture", False)
EVENTS: list[Any] = [
    model.Taken("gpu", NOW + 30_000),
    model.Rerouted(RUNPOD),
    model.Claimed("endpoint"),
    model.Sent("remote", NOW + 2000),
    model.NotTaken(NOW + 1000),
    model.Progressed("execute", 40),
    model.ResultArrived("outputs/a/1.json"),
    model.TryFailed(RETRY),
    model.TryFailed(FINAL_FAULT),
    model.HolderLost(),
    model.Stored("results/a.png", [], 8, 8, "0" * 64),
    model.NotStored(NOW + 1000),
    model.CancelAsked(),
    model.Stopped(),
    model.DeadlinePassed(),
]


def job_in(state: JobState, **values: Any) -> model.Job:
    return make_job(state=state, fence=4, **values)


@pytest.mark.parametrize("state", FINAL)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_final_state_takes_no_event(state: JobState, event: Any) -> None:
    assert advance(job_in(state), event, NOW) is None


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", JobState)
def test_every_event_leads_where_the_table_says(state: JobState, event: Any) -> None:
    allowed = TRANSITIONS.get((state, type(event)))
    for cancel_asked_at in (None, NOW):
        change = advance(job_in(state, cancel_asked_at=cancel_asked_at), event, NOW)
        assert (change is None) == (allowed is None)
        if change is not None:
            assert allowed is not None
            assert change.new_state in allowed
            assert (change.values.get("finished_at") is not None) == change.is_final


def test_every_state_but_the_final_ones_can_be_left_and_every_one_is_reached() -> None:
    reached = {target for targets in TRANSITIONS.values() for target in targets}
    assert reached | {JobState.QUEUED} == set(JobState)
    leaving = {state for (state, _), to in TRANSITIONS.items() if set(to) - {state}}
    assert leaving == set(JobState) - FINAL


def test_a_failure_that_may_pass_is_tried_as_often_as_allowed() -> None:
    job = job_in(JobState.RUNNING, attempt=1)
    again = advance(job, model.TryFailed(RETRY), NOW, attempts=3)
    assert again is not None
    assert again.new_state is JobState.QUEUED
    assert (again.values["attempt"], again.values["fence"]) == (2, 5)
    assert NOW < again.values["due_at"] <= NOW + 2000
    last = advance(job_in(JobState.RUNNING, attempt=2), model.TryFailed(RETRY), NOW, attempts=3)
    assert last is not None
    assert last.new_state is JobState.FAILED
    assert last.values["error_code"] == "comfy_exited"


def test_a_failure_of_the_job_itself_is_not_tried_again() -> None:
    change = advance(job_in(JobState.RUNNING), model.TryFailed(FINAL_FAULT), NOW)
    assert change is not None
    assert change.new_state is JobState.FAILED
    assert change.values["error_retryable"] is False


@pytest.mark.parametrize("event", [model.TryFailed(RETRY), model.HolderLost()])
def test_a_job_whose_cancel_was_asked_is_not_tried_again(event: Any) -> None:
    change = advance(job_in(JobState.RUNNING, cancel_asked_at=NOW - 5), event, NOW)
    assert change is not None
    assert change.new_state is JobState.CANCELLED


def test_a_cancel_leaves_a_running_job_to_whoever_runs_it() -> None:
    own = advance(job_in(JobState.RUNNING, backend=OWN), model.CancelAsked(), NOW)
    cloud = advance(job_in(JobState.SENT, backend=RUNPOD), model.CancelAsked(), NOW)
    assert own is not None
    assert cloud is not None
    assert (own.new_state, own.values["cancel_asked_at"]) == (JobState.RUNNING, NOW)
    assert (cloud.values["due_at"], cloud.values["wake"]) == (NOW, True)


def test_the_percent_never_goes_back() -> None:
    change = advance(job_in(JobState.RUNNING, percent=60), model.Progressed("execute", 40), NOW)
    assert change is not None
    assert change.values["percent"] == 60


@given(st.integers(0, 200), st.text())
def test_waits_before_a_try_grow_and_stay_under_a_minute(attempt: int, job_id: str) -> None:
    wait = retry_wait_ms(job_id, attempt)
    longest = min(60_000, 500 * 2**attempt)
    assert longest // 2 <= wait <= longest


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_any_order_of_events_ends_at_most_once(events: list[Any]) -> None:
    from dataclasses import replace

    job, ends = make_job(), 0
    for event in events:
        change = advance(job, event, NOW)
        if change is not None:
            job = replace(job, **change.values)
            ends += job.state.is_final
    assert ends <= 1
