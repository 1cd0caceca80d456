"""The model behind `make simulate`, against times worked out by hand and laws that always hold."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fleet import Edit, Outcome, Plan, simulate
from benchmarks.load import bursts, day
from benchmarks.setups import compare, edit_of
from benchmarks.simulate import make_parser

EDIT = Edit(prepare_s=1, execute_s=10, finish_s=2)
PLAN = Plan(start_s=40, in_hand=1, idle_timeout_s=5, active=0, most_workers=3, fetch_gap_s=1)


def begun(outcome: Outcome) -> list[float]:
    return [job.begun_s for job in outcome.jobs if job.begun_s is not None]


def done(outcome: Outcome) -> list[float]:
    return [job.done_s for job in outcome.jobs if job.done_s is not None]


def test_a_single_job_waits_for_the_queue_delay_and_the_start() -> None:
    outcome = simulate(PLAN, [(100, EDIT)])
    # 100 + 4 for RunPod to add a worker + 40 for its start + 1 before the GPU.
    assert begun(outcome) == [145]
    assert done(outcome) == [157]
    # Paid from its start at 104 until 5 s after the job.
    assert outcome.paid_s == 162 - 104


def test_jobs_arrive_when_they_should_though_sums_of_times_are_not_exact() -> None:
    first, then = 4509.45, 12992.03
    assert first + (then - first) > then
    outcome = simulate(PLAN, [(first, EDIT), (then, EDIT), (then, EDIT)])
    assert [job.arrived_s for job in outcome.jobs] == [first, then, then]
    assert begun(outcome)[:2] == [first + 45, then + 45]


def test_one_job_in_hand_leaves_the_gpu_idle_between_jobs() -> None:
    plan = replace(PLAN, active=1, most_workers=1)
    outcome = simulate(plan, [(0, EDIT), (0, EDIT), (0, EDIT)])
    # 1 s before, 2 s after, 1 s until the next one is asked for.
    assert begun(outcome) == [1, 15, 29]
    assert done(outcome) == [13, 27, 41]
    assert outcome.paid_s == 41


def test_a_second_job_in_hand_begins_as_the_first_ends() -> None:
    plan = replace(PLAN, active=1, most_workers=1, in_hand=2)
    outcome = simulate(plan, [(0, EDIT), (0, EDIT), (0, EDIT)])
    # The third is asked for 1 s after the first one's end at 13, and is ready in time.
    assert begun(outcome) == [1, 11, 21]


def test_a_job_that_comes_before_the_idle_timeout_finds_the_worker() -> None:
    outcome = simulate(PLAN, [(0, EDIT), (60, EDIT)])
    # Done at 57 and asking for a job since 58, it would have left at 62.
    assert begun(outcome) == [45, 61]
    assert len(outcome.lives) == 1


def test_a_job_that_comes_after_the_idle_timeout_has_another_worker_started() -> None:
    outcome = simulate(PLAN, [(0, EDIT), (64, EDIT)])
    assert begun(outcome) == [45, 64 + 45]
    assert [life.ended_s for life in outcome.lives] == [62, 64 + 45 + 10 + 2 + 5]


def test_no_more_workers_are_started_than_allowed() -> None:
    outcome = simulate(PLAN, [(0, EDIT)] * 50)
    assert len(outcome.lives) == 3


def test_an_active_worker_is_paid_for_the_whole_time() -> None:
    outcome = simulate(replace(PLAN, active=1), [(0, EDIT)], least_s=3600)
    assert outcome.paid_s == 3600


EDITS = st.builds(Edit, st.floats(0, 2), st.floats(0.1, 20), st.floats(0, 2))
ARRIVALS = st.lists(st.tuples(st.floats(0, 600), EDITS), min_size=1, max_size=25).map(
    lambda jobs: sorted(jobs, key=lambda job: job[0])
)
PLANS = st.builds(
    Plan,
    start_s=st.floats(1, 200),
    in_hand=st.integers(1, 3),
    idle_timeout_s=st.floats(0.5, 300),
    active=st.integers(0, 2),
    most_workers=st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(PLANS, ARRIVALS)
def test_every_job_ends_once_on_a_worker_that_was_warm_and_there(
    plan: Plan, arrivals: list
) -> None:
    outcome = simulate(plan, arrivals)
    assert len(done(outcome)) == len(arrivals)
    for job in outcome.jobs:
        life = outcome.lives[job.worker]
        assert job.arrived_s <= job.taken_s <= job.begun_s < job.done_s
        assert job.taken_s >= life.warm_s
        assert life.ended_s is None or job.done_s <= life.ended_s
    # One GPU a worker.
    for number in range(len(outcome.lives)):
        runs = sorted(
            (job.begun_s, job.begun_s + job.edit.execute_s)
            for job in outcome.jobs
            if job.worker == number
        )
        for (_, end_s), (begin_s, _) in itertools.pairwise(runs):
            assert begin_s >= end_s - 1e-6


@settings(max_examples=60, deadline=None)
@given(PLANS, ARRIVALS)
def test_what_is_paid_is_never_less_than_what_the_gpu_worked(plan: Plan, arrivals: list) -> None:
    outcome = simulate(plan, arrivals)
    assert outcome.busy_s == pytest.approx(sum(edit.execute_s for _, edit in arrivals))
    assert outcome.paid_s >= outcome.busy_s - 1e-6


@settings(max_examples=60, deadline=None)
@given(ARRIVALS, st.floats(0, 2))
def test_a_second_job_in_hand_never_makes_a_worker_finish_a_job_later(
    arrivals: list, fetch_gap_s: float
) -> None:
    """Of one worker. Of several, one may hold a job that another could have run."""
    plan = replace(PLAN, active=1, most_workers=1, fetch_gap_s=fetch_gap_s)
    # A job that is ready sooner than the one taken before it would overtake it.
    arrivals = [(at_s, replace(edit, prepare_s=1.0)) for at_s, edit in arrivals]
    alone, paired = (done(simulate(replace(plan, in_hand=most), arrivals)) for most in (1, 2))
    assert all(two <= one + 1e-6 for one, two in zip(alone, paired, strict=True))


def test_loads_are_the_same_for_the_same_seed_and_differ_for_another() -> None:
    def loads(seed: int) -> list:
        return [
            day(EDIT, seed, quiet_per_hour=20, peak_per_hour=200),
            bursts(EDIT, seed, quiet_per_hour=20, bursts_per_hour=2, jobs_per_burst=10),
        ]

    assert loads(1) == loads(1)
    assert loads(1) != loads(2)
    for load in loads(1):
        times = [at_s for at_s, _ in load.arrivals]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] < 25 * 3600


def test_the_day_has_its_peaks() -> None:
    load = day(EDIT, 1, quiet_per_hour=20, peak_per_hour=600)
    per_hour = [sum(1 for at_s, _ in load.arrivals if at_s // 3600 == hour) for hour in range(24)]
    assert per_hour[3] < 60
    assert per_hour[13] > 400
    assert per_hour[20] > 400


def test_the_timings_of_an_answer_are_taken() -> None:
    timings = {
        "check": 15,
        "inputs": 5,
        "wait": 264,
        "execute": 9000,
        "collect": 100,
        "deliver": 400,
    }
    assert edit_of({"output": {"timings": timings}}) == edit_of(timings) == Edit(0.02, 9, 0.5)


def test_the_comparison_has_every_setup_under_every_load() -> None:
    few = ["--quiet-per-hour", "2", "--peak-per-hour", "10", "--jobs-per-burst", "3"]
    rows = compare(make_parser().parse_args(few))
    setups = {(row.load, row.weights, row.active, row.idle_timeout_s, row.in_hand) for row in rows}
    assert len(rows) == len(setups) == 2 * 2 * 2 * 4 * 2
    assert rows == compare(make_parser().parse_args(few))
    assert all(0 <= row.idle < 1 and row.cost > 0 for row in rows)
