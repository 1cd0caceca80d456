"""Killed with -9 at any moment and started again: each accepted job ends once, with one picture."""

import hashlib
import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway_process import GatewayProcess
from tests.gateways import WORKER_KEY, edit, picture, success, worker_auth
from tests.played_worker import PlayedWorker

RESULT = picture(seed=9)


def start(folder: Path, **settings: str) -> GatewayProcess:
    return GatewayProcess(folder, GATEWAY_WORKER_KEY=WORKER_KEY, **settings)


def take(gateway: GatewayProcess, worker: str = "gpu-1") -> Any:
    answer = gateway.http.get(f"/v2/own/job-take/{worker}?gpu=x", headers=worker_auth())
    return answer.json() if answer.status_code == 200 else None


def done(gateway: GatewayProcess, job_id: str, data: bytes = RESULT) -> int:
    return gateway.http.post(
        f"/v2/own/job-done/gpu-1/{job_id}?gpu=x", headers=worker_auth(), json=success(data)
    ).status_code


def pictures(gateway: GatewayProcess, job_id: str) -> list[Path]:
    return list((gateway.data_dir / "objects" / "results" / job_id).glob("*"))


def check_one_picture(gateway: GatewayProcess, job_id: str) -> None:
    status = gateway.wait(job_id, "succeeded", "failed")
    assert status["status"] == "succeeded", status
    found = gateway.http.get(status["result_url"])
    assert hashlib.sha256(found.content).hexdigest() == status["sha256"]
    assert len(pictures(gateway, job_id)) == 1


def test_a_job_that_waits_is_there_after_the_kill(tmp_path: Path) -> None:
    with start(tmp_path) as gateway:
        job_id = gateway.create()
        gateway.kill()
        gateway.start()
        assert take(gateway)["id"] == job_id
        assert done(gateway, job_id) == 200
        check_one_picture(gateway, job_id)


def test_a_running_job_stays_its_workers_over_the_kill(tmp_path: Path) -> None:
    with start(tmp_path, GATEWAY_LEASE_S="2") as gateway:
        job_id = gateway.create()
        assert take(gateway)["id"] == job_id
        gateway.kill()
        # Away for longer than a lease: the worker could not renew.
        time.sleep(2.5)
        gateway.start()
        assert gateway.status(job_id)["status"] == "running"
        assert done(gateway, job_id) == 200
        check_one_picture(gateway, job_id)
        assert gateway.status(job_id)["attempts"] == 1


def test_a_job_whose_worker_died_with_the_gateway_goes_to_another(tmp_path: Path) -> None:
    with start(tmp_path, GATEWAY_LEASE_S="1") as gateway:
        job_id = gateway.create()
        assert take(gateway, "dead")["id"] == job_id
        gateway.kill()
        gateway.start()
        with PlayedWorker(gateway.url, "gpu-2"):
            check_one_picture(gateway, job_id)


def test_an_answer_that_was_taken_is_finished_after_the_kill(tmp_path: Path) -> None:
    with start(tmp_path) as gateway:
        job_id = gateway.create()
        take(gateway)
        # The pictures' folder can't be written: the answer is accepted and not yet a picture.
        blocked = gateway.data_dir / "objects" / "results"
        blocked.write_text("in the way")
        assert done(gateway, job_id) == 200
        assert gateway.status(job_id)["phase"] == "store"
        gateway.kill()
        blocked.unlink()
        gateway.start()
        check_one_picture(gateway, job_id)
        assert done(gateway, job_id, picture(seed=10)) == 200, "the worker sends it once more"
        check_one_picture(gateway, job_id)


@pytest.mark.parametrize("ending", ["cancelled", "succeeded"])
def test_an_end_stays_an_end(tmp_path: Path, ending: str) -> None:
    with start(tmp_path) as gateway:
        job_id = gateway.create()
        if ending == "cancelled":
            gateway.http.post(f"/api/queue/cancel/{job_id}")
        else:
            take(gateway)
            done(gateway, job_id)
            gateway.wait(job_id, "succeeded")
        gateway.kill()
        gateway.start()
        before = gateway.status(job_id)
        assert before["status"] == ending
        assert done(gateway, job_id, picture(seed=10)) == 200
        assert {**gateway.status(job_id), "request_id": ""} == {**before, "request_id": ""}


def test_killed_at_random_under_load_nothing_is_lost_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    accepted: list[str] = []
    stopped = threading.Event()

    def keep_creating(number: int) -> None:
        """As a caller who sends a request again until it is answered."""
        with httpx.Client(base_url=gateway.url, timeout=20, trust_env=False) as client:
            sent = 0
            while not stopped.is_set():
                body = edit(request_id=f"caller-{number}-{sent}")
                try:
                    answer = client.post("/api/queue/create", json=body)
                except httpx.HTTPError:
                    continue
                assert answer.status_code == 200, answer.text
                accepted.append(answer.json()["job_id"])
                sent += 1
                stopped.wait(0.05)

    with start(tmp_path, GATEWAY_LEASE_S="2") as gateway:
        callers = [threading.Thread(target=keep_creating, args=(n,)) for n in range(2)]
        workers = [PlayedWorker(gateway.url, f"gpu-{n}", 0.01) for n in range(3)]
        with workers[0], workers[1], workers[2]:
            for caller in callers:
                caller.start()
            for _ in range(8):
                time.sleep(chance.uniform(0.3, 1.0))
                gateway.kill()
                gateway.start()
            stopped.set()
            for caller in callers:
                caller.join()
            assert len(accepted) > 50, f"seed {seed}"
            assert len(set(accepted)) == len(accepted), f"seed {seed}"
            for job_id in accepted:
                check_one_picture(gateway, job_id)
        ran = [job_id for worker in workers for job_id in worker.runs]
        assert set(ran) == set(accepted), f"seed {seed}"


def test_told_to_end_it_lets_go_of_its_connections_and_leaves(tmp_path: Path) -> None:
    with start(tmp_path) as gateway:
        job_id = gateway.create()
        answers: list[int] = []

        def hold(path: str, headers: dict[str, str]) -> None:
            answer = httpx.get(f"{gateway.url}{path}", headers=headers, timeout=30, trust_env=False)
            answers.append(answer.status_code)

        stop = threading.Thread(target=hold, args=("/v2/own/job-stop/gpu-1", worker_auth()))
        events = threading.Thread(target=hold, args=(f"/api/queue/events/{job_id}", {}))
        stop.start()
        events.start()
        time.sleep(0.5)
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 10
        stop.join(5)
        events.join(5)
        assert sorted(answers) == [200, 204]


def test_a_second_gateway_on_the_same_file_is_refused(tmp_path: Path) -> None:
    with start(tmp_path) as gateway:
        second = start(tmp_path)
        second._env["GATEWAY_DATA_DIR"] = str(gateway.data_dir)
        with pytest.raises(AssertionError, match="database_in_use"):
            second.start()
        second.http.close()
