"""How the worker fetches its jobs through the real SDK's loop."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.contract.runpod.test_runpod_api import (
    PROJECT_DIR,
    START_S,
    TAKE,
    Worker,
    running_worker,
)
from tests.fakes.runpod_api import RunPodApi

CHILD = Path(__file__).parents[1] / "children" / "serve_worker.py"


def serving(api: RunPodApi, folder: Path, concurrency: int) -> AbstractContextManager[Worker]:
    return running_worker(
        api, folder, program=CHILD, CONCURRENCY=str(concurrency), PYTHONPATH=str(PROJECT_DIR)
    )


@pytest.fixture
def api() -> Iterator[RunPodApi]:
    with RunPodApi() as api:
        yield api


def submit_waiting(api: RunPodApi, gate: str) -> str:
    job_id = api.submit({"waits": gate})
    api.wait_for(lambda: api.progress(job_id), f"handler of {job_id}", START_S)
    return job_id


def came_before(api: RunPodApi, job_id: str, later: str) -> bool:
    """Whether the one job's result had arrived when the worker asked for the other."""
    [done] = [call for call in api.calls("job-done") if job_id in call.job_ids]
    [take] = [call for call in api.calls(*TAKE) if later in call.job_ids]
    return done.at < take.at


def test_with_concurrency_1_a_job_is_fetched_after_the_last_result(
    api: RunPodApi, tmp_path: Path
) -> None:
    with serving(api, tmp_path, 1):
        first = submit_waiting(api, "first")
        others = [api.submit({}) for _ in range(3)]
        # The worker asks for nothing while it has a job.
        before = len(api.pings)
        api.wait_for(lambda: len(api.pings) >= before + 3, "three heartbeats")
        assert all(call.answered for call in api.calls(*TAKE))
        assert [api.status(other) for other in others] == ["IN_QUEUE"] * 3
        api.cancel(first)
        for other in others:
            api.result(other)
        assert came_before(api, others[0], others[1])
        assert came_before(api, others[1], others[2])
    assert {call.route for call in api.calls(*TAKE)} == {"job-take"}


def test_with_concurrency_2_the_third_job_waits_for_a_free_hand(
    api: RunPodApi, tmp_path: Path
) -> None:
    with serving(api, tmp_path, 2):
        long = submit_waiting(api, "long")
        short = submit_waiting(api, "short")
        third = api.submit({"opens": "long"})
        before = len(api.pings)
        api.wait_for(lambda: len(api.pings) >= before + 3, "three heartbeats")
        assert api.status(third) == "IN_QUEUE"
        api.cancel(short)
        assert api.result(third)["output"] == {"ok": True}
        assert api.result(long)["output"] == {"ok": True}


def test_a_job_is_fetched_beside_one_that_was_just_taken(api: RunPodApi, tmp_path: Path) -> None:
    """The SDK would count the first twice, and sleep."""
    with serving(api, tmp_path, 2):
        api.wait_for(lambda: api.calls(*TAKE), "first take", START_S)
        first = api.submit({"waits": "never"})
        api.wait_taken(first)
        api.wait_for(lambda: api.calls(*TAKE)[-1].status is None, "the next take")
        [asks] = [call for call in api.calls("job-take") if call.status is None]
        assert asks.query["job_in_progress"] == "1"


def test_a_worker_asks_to_be_replaced_with_the_last_answer_in_hand(
    api: RunPodApi, tmp_path: Path
) -> None:
    """RunPod stops it at once, and the job beside with it."""
    with serving(api, tmp_path, 2):
        beside = submit_waiting(api, "beside")
        spoilt = api.submit({"refresh": True, "opens": "beside"})
        assert "stopPod" not in api.result(spoilt)
        assert api.result(beside)["stopPod"] is True


def test_a_worker_that_is_to_be_replaced_takes_no_job_beside_the_last(
    api: RunPodApi, tmp_path: Path
) -> None:
    with serving(api, tmp_path, 2):
        last = submit_waiting(api, "never")
        assert "stopPod" not in api.result(api.submit({"refresh": True}))
        other = api.submit({})
        before = len(api.pings)
        api.wait_for(lambda: len(api.pings) >= before + 3, "three heartbeats")
        assert api.status(other) == "IN_QUEUE"
        api.cancel(last)
        assert api.result(other)["stopPod"] is True


@pytest.mark.parametrize("status", [429, 503])
def test_a_result_for_which_the_api_has_no_time_is_sent_again(
    api: RunPodApi, tmp_path: Path, status: int
) -> None:
    with serving(api, tmp_path, 1):
        api.fail_next("job-done", status, times=4)
        assert api.result(api.submit({}), START_S)["output"] == {"ok": True}
