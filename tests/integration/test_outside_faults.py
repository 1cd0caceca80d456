"""What can go wrong around the worker: the bucket, and RunPod's own API."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.breaking_store import BreakingStore, Mood
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    WorkerProcess,
    invert_workflow,
    job_input,
    photo,
    wait_until,
)

RESULT_S = 60
# 6 MB, more than a socket holds: an upload of it can stop half-way.
LARGE = (1600, 1200)


def bucket_env(store: BreakingStore) -> dict[str, str]:
    return {
        "BUCKET_ENDPOINT_URL": store.url,
        "BUCKET_NAME": "pictures",
        "BUCKET_ACCESS_KEY_ID": "key-id",
        "BUCKET_SECRET_ACCESS_KEY": "secret",
    }


@pytest.fixture(scope="module")
def store() -> Iterator[BreakingStore]:
    with BreakingStore() as store:
        yield store


@pytest.fixture(scope="module")
def worker(
    api: RunPodApi, store: BreakingStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    env = api.env() | bucket_env(store)
    with WorkerProcess(tmp_path_factory.mktemp("worker"), env) as worker:
        worker.wait_for_log("comfyui ready")
        yield worker


@pytest.fixture(autouse=True)
def _all_is_well_afterwards(
    api: RunPodApi, store: BreakingStore, worker: WorkerProcess
) -> Iterator[None]:
    yield
    store.mood = "good"
    job_id = api.submit(job_input(invert_workflow(), photo(99), request_id="afterwards"))
    assert api.result(job_id, RESULT_S)["output"]["ok"] is True
    assert store.objects.pop("/pictures/afterwards/result_00001_.png").startswith(b"\x89PNG")
    assert store.objects == {}
    assert worker.job_files() == []


@pytest.mark.parametrize(
    ("mood", "retryable"), [("refuses", False), ("breaks off", True)], ids=["refuses", "breaks"]
)
def test_a_bucket_that_does_not_take_the_picture_fails_the_job(
    api: RunPodApi, worker: WorkerProcess, store: BreakingStore, mood: Mood, retryable: bool
) -> None:
    store.mood = mood
    output = api.result(api.submit(job_input(invert_workflow(), photo(1))), RESULT_S)["output"]
    assert (output["code"], output["retryable"]) == ("upload_failed", retryable)


@pytest.mark.parametrize("mood", ["is silent", "is slow"])
def test_a_bucket_that_hangs_costs_the_job_no_more_than_its_time(
    api: RunPodApi, worker: WorkerProcess, store: BreakingStore, mood: Mood
) -> None:
    store.mood = mood
    job = job_input(invert_workflow(), photo(2, LARGE), timeout_s=4)
    assert api.result(api.submit(job), 20)["output"]["code"] == "job_timeout"
    if mood == "is slow":
        # Given up half-way: else it would be whole in the end, and be kept.
        wait_until(lambda: store.uploads == 0, "the upload ends", 30)


def test_sigterm_ends_a_worker_whose_bucket_hangs(tmp_path: Path) -> None:
    with RunPodApi(poll_s=60) as api, BreakingStore() as store:
        store.mood = "is slow"
        env = api.env() | bucket_env(store) | {"WORKER_SHUTDOWN_GRACE_S": "1"}
        with WorkerProcess(tmp_path, env) as worker:
            job_id = api.submit(job_input(invert_workflow(), photo(3, LARGE)))
            wait_until(lambda: store.uploads, "the upload begins", RESULT_S, worker.tail)
            worker.child.send_signal(signal.SIGTERM)
            assert api.result(job_id, 20)["output"]["code"] == "interrupted"
            assert worker.child.wait(timeout=5) == 0


@pytest.mark.parametrize(
    ("status", "times"), [(500, 4), (0, 2)], ids=["it fails", "the connection breaks"]
)
def test_a_result_that_runpod_does_not_take_at_first_is_sent_again(
    api: RunPodApi, worker: WorkerProcess, status: int, times: int
) -> None:
    api.fail_next("job-done", status, times)
    job = job_input(invert_workflow(), photo(4), output={"delivery": "base64"})
    assert api.result(api.submit(job), RESULT_S)["output"]["ok"] is True


def test_a_result_that_runpod_refuses_does_not_cost_the_next_job(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    api.fail_next("job-done", 400)
    job = job_input(invert_workflow(), photo(5), output={"delivery": "base64"})
    job_id = api.submit(job)

    def refusals() -> list[int | None]:
        return [call.status for call in api.calls("job-done") if job_id in call.job_ids]

    wait_until(refusals, "the result is sent", RESULT_S, worker.tail)
    assert refusals() == [400]


@pytest.mark.parametrize("status", [500, 0], ids=["it fails", "the connection breaks"])
def test_while_runpod_has_no_jobs_to_give_it_is_not_asked_without_a_pause(
    api: RunPodApi, worker: WorkerProcess, status: int
) -> None:
    asked = len(api.calls("job-take", "job-take-batch"))
    api.fail_next("job-take", status, times=3)

    def takes() -> list[float]:
        calls = api.calls("job-take", "job-take-batch")[asked:]
        return [call.at for call in calls if call.status == status]

    wait_until(lambda: len(takes()) >= 2, "a second try", RESULT_S, worker.tail)
    assert takes()[1] - takes()[0] > 0.9


def test_a_progress_update_that_runpod_does_not_take_costs_nothing(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    api.fail_next("progress", 500, times=3)
    job = job_input(invert_workflow(), photo(6), output={"delivery": "base64"})
    assert api.result(api.submit(job), RESULT_S)["output"]["ok"] is True
