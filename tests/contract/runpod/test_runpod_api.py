"""Holds the stand-in for RunPod's API, and what the worker relies on, to the real RunPod SDK."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.runpod_api import RunPodApi

PROJECT_DIR = Path(__file__).resolve().parents[3]
ECHO_WORKER = Path(__file__).parents[1] / "children" / "echo_worker.py"
CHECKED_WORKER = Path(__file__).parents[1] / "children" / "checked_worker.py"
START_S = 30.0
TAKE = ("job-take", "job-take-batch")

Worker = subprocess.Popen[bytes]
StartWorker = Callable[..., Worker]


@pytest.fixture
def api() -> Iterator[RunPodApi]:
    with RunPodApi() as server:
        yield server


@pytest.fixture
def start(api: RunPodApi, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a real worker of `api`; whatever it leaves running is killed at the end."""
    with ExitStack() as stack:
        yield lambda mode="", **more: stack.enter_context(
            running_worker(api, tmp_path, mode, **more)
        )


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunPodApi]:
    """A stand-in with a running worker, for tests that leave the worker idle and unharmed."""
    with RunPodApi() as server, running_worker(server, tmp_path_factory.mktemp("worker")):
        wait_polling(server)
        yield server


@contextmanager
def running_worker(
    api: RunPodApi, folder: Path, mode: str = "", program: Path = ECHO_WORKER, **more: str
) -> Iterator[Worker]:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ECHO_MODE": mode,
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        **api.env(),
        **more,
    }
    # The SDK would run a test_input.json of its folder and read ~/.runpod: this folder is empty.
    # Its output goes to a file because the heartbeat process would keep a pipe open.
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, str(program)],
            env=env,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)


def wait_polling(api: RunPodApi) -> None:
    """Waits until the worker holds a poll for jobs and one for stops."""

    def held(*routes: str) -> bool:
        return any(call.status is None for call in api.calls(*routes))

    api.wait_for(lambda: held(*TAKE) and held("job-stop"), "polling worker", START_S)


def wait_no_jobs(api: RunPodApi) -> None:
    """Waits for a heartbeat which says that the worker is through with its jobs."""
    before = len(api.pings)
    api.wait_for(lambda: any(not ping.job_ids for ping in api.pings[before:]), "idle ping")


def submit_waiting(api: RunPodApi, gate: str) -> str:
    """Submits a job that ends when the gate is opened, and waits until its handler runs."""
    job_id = api.submit({"do": "wait", "gate": gate})
    api.wait_for(lambda: api.progress(job_id), f"handler of {job_id}", START_S)
    return job_id


def open_gate(api: RunPodApi, gate: str) -> None:
    api.result(api.submit({"do": "open", "gate": gate}))


def wait_pings(api: RunPodApi, count: int) -> None:
    """Waits for heartbeats: (count - 1) seconds at least, in which nothing else has to happen."""
    before = len(api.pings)
    api.wait_for(lambda: len(api.pings) >= before + count, f"{count} pings")


def end_held_polls(api: RunPodApi) -> None:
    api.fail_next("job-take", 204)
    api.fail_next("job-stop", 204)


def posts(api: RunPodApi, job_id: str) -> list[int | None]:
    """The answers that the attempts to report a job's result got."""
    return [call.status for call in api.calls("job-done") if job_id in call.job_ids]


RETURNED: list[tuple[Any, dict[str, Any], str]] = [
    ({"images": ["ä"]}, {"output": {"images": ["ä"]}}, "COMPLETED"),
    ([1, 2], {"output": [1, 2]}, "COMPLETED"),
    ("text", {"output": "text"}, "COMPLETED"),
    (False, {"output": False}, "COMPLETED"),
    (None, {"output": None}, "COMPLETED"),
    ({}, {}, "COMPLETED"),
    ({"error": "bad"}, {"error": "bad"}, "FAILED"),
    ({"error": "bad", "code": 1}, {"error": "bad", "output": {"code": 1}}, "FAILED"),
    ({"error": {"code": 1}}, {"error": {"code": 1}}, "COMPLETED"),
    ({"error": "", "code": 1}, {"output": {"code": 1}}, "COMPLETED"),
    ({"refresh_worker": True, "x": 1}, {"output": {"x": 1}, "stopPod": True}, "COMPLETED"),
]


@pytest.fixture(scope="module")
def returned(shared_api: RunPodApi) -> list[str]:
    """The jobs of RETURNED, all submitted at once, for the SDK takes no more than two a second."""
    return [shared_api.submit({"do": "return", "value": value}) for value, _, _ in RETURNED]


@pytest.mark.parametrize("row", range(len(RETURNED)), ids=[str(value) for value, _, _ in RETURNED])
def test_what_a_returned_value_is_posted_as(
    shared_api: RunPodApi, returned: list[str], row: int
) -> None:
    job_id, (_, body, status) = returned[row], RETURNED[row]
    assert shared_api.result(job_id) == body
    assert shared_api.status(job_id) == status
    [post] = [call for call in shared_api.calls("job-done") if job_id in call.job_ids]
    assert post.query["isStream"] == "false"
    assert post.headers["X-Request-ID"] == job_id
    assert post.headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_an_exception_is_posted_with_its_traceback(shared_api: RunPodApi) -> None:
    job_id = shared_api.submit({"do": "misbehave", "message": "broken"})
    body = shared_api.result(job_id)
    assert set(body) == {"error"}
    error = json.loads(body["error"])
    assert error["error_message"] == "broken"
    assert "ValueError" in error["error_type"]
    assert "echo_worker.py" in error["error_traceback"]
    assert shared_api.status(job_id) == "FAILED"


def test_the_handler_gets_every_field_of_the_job(shared_api: RunPodApi) -> None:
    job = {
        "id": "fields-u1",
        "input": {"do": "return the job"},
        "webhook": "http://x.invalid",
        "n": 1,
    }
    shared_api.submit(job["input"], "fields-u1", webhook=job["webhook"], n=1)
    assert shared_api.result("fields-u1") == {"output": job}


def test_a_value_that_is_no_json_is_never_reported(shared_api: RunPodApi) -> None:
    lost = shared_api.submit({"do": "misbehave"})
    shared_api.wait_taken(lost)
    wait_no_jobs(shared_api)
    assert posts(shared_api, lost) == []
    assert shared_api.status(lost) == "IN_PROGRESS"


def test_two_jobs_are_taken_at_once_and_a_third_beside_the_running_one(
    api: RunPodApi, start: StartWorker
) -> None:
    long = api.submit({"do": "wait", "gate": "long"})
    short = api.submit({"do": "return", "value": 1})
    start()
    api.result(short, START_S)
    api.wait_for(lambda: api.calls("job-take"), "single job-take", 5)
    batch, single = api.calls(*TAKE)
    assert batch.route == "job-take-batch"
    assert batch.query["batch_size"] == "2"
    assert batch.query["job_in_progress"] == "0"
    assert batch.job_ids == (long, short)
    assert single.route == "job-take"
    assert single.query["job_in_progress"] == "1"
    [short_done] = api.calls("job-done")
    assert short_done.answered is not None
    assert 0 < single.at - short_done.answered < 3
    assert api.status(long) == "IN_PROGRESS"
    open_gate(api, "long")
    assert api.result(long) == {"output": "waited"}


def test_a_cancelled_job_raises_in_its_handler_and_posts_nothing(shared_api: RunPodApi) -> None:
    job_id = submit_waiting(shared_api, "never")
    shared_api.cancel(job_id)
    saw = shared_api.submit({"do": "wait", "gate": f"cancelled {job_id}"})
    assert shared_api.result(saw) == {"output": "waited"}
    assert posts(shared_api, job_id) == []
    assert shared_api.status(job_id) == "CANCELLED"


def test_the_heartbeat_names_the_running_jobs(shared_api: RunPodApi) -> None:
    jobs = {submit_waiting(shared_api, "beat"), submit_waiting(shared_api, "beat")}
    shared_api.wait_for(lambda: set(shared_api.pings[-1].job_ids) == jobs, "ping with both jobs")
    assert shared_api.pings[-1].headers["Authorization"] == "fake-key"
    shared_api.cancel(jobs.pop())
    open_gate(shared_api, "beat")
    wait_no_jobs(shared_api)


def test_a_failed_report_is_repeated(shared_api: RunPodApi) -> None:
    shared_api.fail_next("job-done", 500)
    job_id = shared_api.submit({"do": "return", "value": 1})
    assert shared_api.result(job_id) == {"output": 1}
    assert posts(shared_api, job_id) == [500, 200]


def test_a_report_is_given_up_after_three_attempts(shared_api: RunPodApi) -> None:
    shared_api.fail_next("job-done", 500, times=3)
    lost = shared_api.submit({"do": "return", "value": 1})
    shared_api.wait_for(lambda: len(posts(shared_api, lost)) == 3, "third attempt")
    wait_no_jobs(shared_api)
    assert posts(shared_api, lost) == [500, 500, 500]
    assert shared_api.status(lost) == "IN_PROGRESS"


def test_a_result_over_the_limit_is_refused_once_and_lost(shared_api: RunPodApi) -> None:
    shared_api.body_limit = 1000
    try:
        lost = shared_api.submit({"do": "return", "value": "x" * 1000})
        shared_api.wait_for(lambda: posts(shared_api, lost) == [400], "refused result")
    finally:
        shared_api.body_limit = None
    wait_no_jobs(shared_api)
    assert posts(shared_api, lost) == [400]
    assert shared_api.status(lost) == "COMPLETED"
    with pytest.raises(TimeoutError, match=f"no result of {lost}"):
        shared_api.result(lost, timeout_s=0)


@pytest.mark.parametrize("status", [204, 400, 429, 500])
def test_a_refused_job_take_is_repeated(shared_api: RunPodApi, status: int) -> None:
    def last_two() -> list[int | None]:
        return [call.status for call in shared_api.calls(*TAKE)[-2:]]

    wait_polling(shared_api)
    shared_api.fail_next("job-take", status)
    shared_api.wait_for(lambda: last_two() == [status, None], "next job-take")
    refused, repeated = shared_api.calls(*TAKE)[-2:]
    assert refused.answered is not None
    assert (repeated.at - refused.answered > 4) == (status == 429)


@pytest.mark.parametrize(("mode", "output"), [("stream", []), ("aggregate", [1, {"a": 2}])])
def test_a_generator_streams_its_items(
    api: RunPodApi, start: StartWorker, mode: str, output: list[Any]
) -> None:
    job_id = api.submit([1, {"a": 2}])
    start(mode)
    assert api.result(job_id, START_S) == {"output": output}
    assert [call.body for call in api.calls("job-stream")] == [{"output": 1}, {"output": {"a": 2}}]
    assert api.calls("job-done")[0].query["isStream"] == "true"


def test_a_worker_with_refresh_worker_ends_after_its_job(
    api: RunPodApi, start: StartWorker
) -> None:
    api.poll_s = 0.5
    job_id = api.submit({"do": "return", "value": {"x": 1}})
    worker = start("refresh")
    assert api.result(job_id, START_S) == {"output": {"x": 1}, "stopPod": True}
    assert worker.wait(10) == 0


def test_an_unhealthy_worker_says_so_and_exits(api: RunPodApi, start: StartWorker) -> None:
    api.submit({"do": "return", "value": 1}, "untouched")
    worker = start("unhealthy")
    assert worker.wait(START_S) == 1
    [report] = api.pings
    assert report.query["status"] == "unhealthy"
    assert report.query["check"] == "unhealthy"
    assert report.query["reason"] == "RuntimeError: no such device"
    assert api.calls(*TAKE) == []
    assert api.status("untouched") == "IN_QUEUE"


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("foreseen", "Unfit: upload_failed: could not reach bucket 'b' with [redacted]"),
        ("unforeseen", "Unfit: internal_error: ValueError; the log has the traceback"),
    ],
)
def test_a_check_of_the_workers_that_fails_is_reported_with_its_code_and_no_secret(
    api: RunPodApi, start: StartWorker, tmp_path: Path, failing: str, reason: str
) -> None:
    api.submit({}, "untouched")
    worker = start(program=CHECKED_WORKER, FAILING_CHECK=failing, PYTHONPATH=str(PROJECT_DIR))
    assert worker.wait(START_S) == 1
    [report] = api.pings
    assert report.query["status"] == "unhealthy"
    assert (report.query["check"], report.query["reason"]) == ("second", reason)
    assert api.status("untouched") == "IN_QUEUE"
    assert (tmp_path / "closed").exists()
    assert not (tmp_path / "third").exists()
    log = (tmp_path / "log").read_text()
    assert "that-must-not-show" not in log
    [last] = [line for line in map(json.loads, log.splitlines()) if line["event"] == "worker ends"]
    assert last["code"] in reason


def test_checks_that_pass_let_jobs_through(
    api: RunPodApi, start: StartWorker, tmp_path: Path
) -> None:
    job_id = api.submit({})
    start(program=CHECKED_WORKER, FAILING_CHECK="", PYTHONPATH=str(PROJECT_DIR))
    assert api.result(job_id, START_S) == {"output": {"done": True}}
    assert (tmp_path / "third").exists()
    assert not (tmp_path / "closed").exists()


def test_sigterm_lets_the_running_job_end_and_loses_what_a_held_poll_takes(
    api: RunPodApi, start: StartWorker
) -> None:
    worker = start()
    job_id = api.submit({"do": "sleep", "seconds": 1})
    api.wait_for(lambda: api.progress(job_id), "running handler", START_S)
    wait_polling(api)
    worker.send_signal(signal.SIGTERM)
    assert api.status(job_id) == "IN_PROGRESS"
    assert api.result(job_id) == {"output": "slept"}
    wait_pings(api, 2)
    assert worker.poll() is None
    lost = api.submit({"do": "return", "value": 1})
    api.wait_taken(lost, timeout_s=1)
    end_held_polls(api)
    assert worker.wait(5) == 0
    assert posts(api, lost) == []
    assert api.status(lost) == "IN_PROGRESS"
    with pytest.raises(ProcessLookupError):
        os.killpg(worker.pid, 0)


def test_the_heartbeat_outlives_a_killed_worker(api: RunPodApi, start: StartWorker) -> None:
    worker = start()
    job_id = submit_waiting(api, "never")
    api.wait_for(lambda: api.pings and api.pings[-1].job_ids == (job_id,), "ping with the job")
    worker.kill()
    worker.wait(5)
    wait_pings(api, 2)
    assert api.pings[-1].job_ids == (job_id,)


def get(url: str) -> tuple[int, Any]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=30) as response:
        return response.status, json.loads(response.read() or "null")


def test_a_queued_job_can_be_cancelled_and_is_not_taken(api: RunPodApi) -> None:
    cancelled, next_in_line = api.submit({}), api.submit({"n": 1}, webhook="http://x.invalid")
    api.cancel(cancelled)
    job = {"id": next_in_line, "input": {"n": 1}, "webhook": "http://x.invalid"}
    assert get(api.env()["RUNPOD_WEBHOOK_GET_JOB"]) == (200, job)
    assert api.status(cancelled) == "CANCELLED"
    assert api.status(next_in_line) == "IN_PROGRESS"


def test_leaving_the_stand_in_ends_held_polls_at_once() -> None:
    with ThreadPoolExecutor() as pool:
        with RunPodApi(poll_s=60) as api:
            poll = pool.submit(get, api.env()["RUNPOD_WEBHOOK_GET_JOB"])
            api.wait_for(lambda: api.calls("job-take"), "held poll")
        assert poll.result(timeout=5) == (204, None)
