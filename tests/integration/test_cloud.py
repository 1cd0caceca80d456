"""A real gateway with the stand-in for RunPod's cloud: amid every oddity, killed with -9 at each
point of a job and started again. No job is lost, and none has two pictures."""

import contextlib
import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.databases import Templates
from tests.fakes.runpod_cloud import RunPodCloud
from tests.fakes.runpod_oddities import Mischief, Oddity
from tests.fakes.runpod_work import paint
from tests.gateway_process import PROJECT_DIR, GatewayProcess
from tests.gateways import picture

README = (PROJECT_DIR / "README.md").read_text()

Until = Callable[[RunPodCloud, GatewayProcess, str], object]


@pytest.fixture
def cloud() -> Iterator[RunPodCloud]:
    with RunPodCloud() as found:
        yield found


@pytest.fixture
def gateway(cloud: RunPodCloud, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, GATEWAY_ROUTE="runpod", **cloud.env()) as found:
        yield found


def succeeded(gateway: GatewayProcess, job_id: str) -> dict[str, Any]:
    status = gateway.wait(job_id, "succeeded", "failed", "cancelled")
    assert status["status"] == "succeeded", status
    answer = gateway.http.get(status["result_url"])
    assert hashlib.sha256(answer.content).hexdigest() == status["sha256"]
    folder = gateway.data_dir / "objects" / "results" / job_id
    assert len(list(folder.iterdir())) == 1
    return status


def asked(route: str) -> Until:
    return lambda cloud, _gateway, _job_id: cloud.wait_for(
        lambda: cloud.requests(route), f"request of {route}"
    )


def taken(cloud: RunPodCloud, _gateway: GatewayProcess, _job_id: str) -> None:
    cloud.wait_for(lambda: cloud.jobs, "a job to be taken")


def runs(cloud: RunPodCloud, gateway: GatewayProcess, job_id: str) -> None:
    gateway.wait(job_id, "running")


def nothing(cloud: RunPodCloud, gateway: GatewayProcess, job_id: str) -> None:
    pass


POINTS: dict[str, tuple[dict[str, str], dict[str, Any], Until]] = {
    "just made": ({}, {}, nothing),
    "sent, not taken": ({"run": "slow"}, {}, asked("run")),
    "taken, not answered": ({"run": "late"}, {"run_s": 1.0}, taken),
    "waits at runpod": ({}, {"cold_start_s": 2.0}, asked("status")),
    "runs at runpod": ({}, {"run_s": 2.0}, runs),
    "result on its way": ({"status": "late"}, {}, asked("status")),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_job_goes_on_after_a_kill(
    cloud: RunPodCloud, gateway: GatewayProcess, point: str
) -> None:
    faults, oddity, until = POINTS[point]
    for route, fault in faults.items():
        cloud.fail_next(route, fault)
    cloud.next_job(**oddity)
    job_id = gateway.create()
    until(cloud, gateway, job_id)
    gateway.kill()
    gateway.start()
    assert succeeded(gateway, job_id)["attempts"] == 1
    # RunPod knows no idempotency key: only a job whose answer was cut off may run twice.
    assert cloud.executions[job_id] <= (2 if "run" in faults else 1)


def test_a_job_whose_picture_was_being_stored_goes_on_after_a_kill(
    cloud: RunPodCloud, gateway: GatewayProcess
) -> None:
    with slow_bucket() as (url, asked_for, go):
        cloud.execute = lambda job: at_address(job, url)
        job_id = gateway.create()
        assert asked_for.wait(30)
        gateway.kill()
        go.set()
        gateway.start()
        assert succeeded(gateway, job_id)["attempts"] == 1
    assert cloud.executions == {job_id: 1}


def test_a_cancel_goes_on_after_a_kill(cloud: RunPodCloud, gateway: GatewayProcess) -> None:
    cloud.next_job(run_s=60)
    job_id = gateway.create()
    runs(cloud, gateway, job_id)
    cloud.fail_next("cancel", "slow")
    gateway.http.post(f"/api/queue/cancel/{job_id}")
    asked("cancel")(cloud, gateway, job_id)
    gateway.kill()
    gateway.start()
    assert gateway.wait(job_id, "cancelled")
    cloud.wait_for(lambda: next(iter(cloud.jobs.values())).status == "CANCELLED", "stop at RunPod")


def test_a_stop_by_sigterm_leaves_every_job_to_the_next_process(
    cloud: RunPodCloud, gateway: GatewayProcess
) -> None:
    cloud.oddity = Oddity(run_s=1.0)
    job_ids = [gateway.create() for _ in range(6)]
    cloud.wait_for(lambda: cloud.requests("status"), "a look")
    gateway.stop()
    assert "did not end in time" not in gateway.log_path.read_text()
    gateway.start()
    for job_id in job_ids:
        assert succeeded(gateway, job_id)["attempts"] == 1
    assert cloud.executions == dict.fromkeys(job_ids, 1)


def test_kills_at_random_amid_every_oddity_lose_no_job(
    cloud: RunPodCloud, gateway: GatewayProcess
) -> None:
    cloud.mischief = Mischief(seed=11, rate=0.15)
    job_ids = []
    for _ in range(3):
        job_ids += [gateway.create() for _ in range(5)]
        count = len(cloud.requests())
        cloud.wait_for(lambda count=count: len(cloud.requests()) >= count + 8, "some traffic")
        gateway.kill()
        gateway.start()
    cloud.mischief = None
    for job_id in job_ids:
        status = gateway.wait(job_id, "succeeded", "failed", timeout_s=120)
        if status["status"] == "succeeded":
            succeeded(gateway, job_id)
        else:
            # Three tries may all have met a worker that raises or an output that was lost.
            assert status["error"]["code"] in ("worker_error", "invalid_output"), status


def test_two_gateways_share_jobs_and_one_goes_on_alone(
    cloud: RunPodCloud, database_templates: Templates, tmp_path: Path
) -> None:
    given = {
        "GATEWAY_ROUTE": "runpod", "GATEWAY_LEASE_S": "2", "GATEWAY_WORKER_KEY": "key-of-both",
        "GATEWAY_DATABASE_URL": database_templates.url("postgresql"), **cloud.env(),
    }  # fmt: skip
    cloud.oddity = Oddity(run_s=1.0)
    with GatewayProcess(tmp_path, **given) as lasts, GatewayProcess(tmp_path, **given) as dies:
        job_ids = [gateway.create() for _ in range(4) for gateway in (lasts, dies)]
        cloud.fail_next("run", "late", "late")
        job_ids += [dies.create() for _ in range(4)]
        cloud.wait_for(lambda: len(cloud.jobs) > 6, "jobs at RunPod")
        dies.kill()
        for job_id in job_ids:
            assert succeeded(lasts, job_id)["attempts"] == 1
    assert set(cloud.executions) == set(job_ids)


def test_recover_fetches_what_runpod_has_while_the_gateway_is_down(
    cloud: RunPodCloud, gateway: GatewayProcess
) -> None:
    cloud.oddity = Oddity(cold_start_s=3.0)
    job_ids = [gateway.create() for _ in range(3)]
    looked_at = lambda: {request.job_id for request in cloud.requests("status")}  # noqa: E731
    cloud.wait_for(lambda: len(looked_at()) == 3, "a look at each")
    gateway.kill()
    cloud.wait_for(lambda: all(job.is_final for job in cloud.jobs.values()), "ends")
    told = json.loads(gateway.command("recover").splitlines()[-1])
    assert told == {"looked_at": 3, "open": {}}
    cloud.jobs.clear()
    gateway.start()
    for job_id in job_ids:
        assert succeeded(gateway, job_id)["attempts"] == 1


def test_the_readmes_curl_makes_a_picture_amid_every_oddity(tmp_path: Path) -> None:
    (command,) = re.findall(r"^curl .+ http://127.0.0.1:8787/api/queue/create$", README, re.M)
    with RunPodCloud(mischief=Mischief(seed=3), hook_gap_s=0.5, slow_s=0.5) as cloud:
        # So many tries that bad luck alone ends no job.
        with GatewayProcess(
            tmp_path, hooks=True, GATEWAY_ROUTE="runpod", GATEWAY_ATTEMPTS="9", **cloud.env()
        ) as gateway:
            job_ids = []
            for _ in range(8):
                ran = subprocess.run(
                    ["bash", "-c", command.replace("http://127.0.0.1:8787", gateway.url)],
                    cwd=PROJECT_DIR, capture_output=True, timeout=60, check=True,
                )  # fmt: skip
                job_ids.append(json.loads(ran.stdout)["job_id"])
            for job_id in job_ids:
                succeeded(gateway, job_id)
        assert cloud.hooks


@contextlib.contextmanager
def slow_bucket() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """Where a worker has put its picture: the address, whether it was asked for, and when it is
    to answer."""
    asked_for, go = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_for.set()
            go.wait(60)
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(picture(seed=5))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/r.png", asked_for, go
    finally:
        go.set()
        server.shutdown()
        server.server_close()
        thread.join()


def at_address(job: dict[str, Any], url: str) -> dict[str, Any]:
    output = paint(job)["output"]
    output.pop("image_base64")
    output["images"][0] |= {"type": "s3_url", "data": url}
    return {"output": {**output, "url": url, "image_url": url}}
