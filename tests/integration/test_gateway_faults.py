"""What a gateway needs fails, for a while: it says so by a stable code, loses nothing, and goes on
by itself."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.store.database import Database
from gateway.store.migrate import migrate
from tests.gateways import WORKER_KEY, edit, picture, success, worker_auth
from tests.siege.processes import Gateway, Postgres, wait_until
from tests.siege.store import BreakingBucket


@contextlib.contextmanager
def serving(folder: Path, **settings: str) -> Iterator["Site"]:
    clock = folder / "clock"
    clock.write_text("0")
    gateway = Gateway(
        folder, "gateway", clock, GATEWAY_DATA_DIR=str(folder / "data"),
        GATEWAY_WORKER_KEY=WORKER_KEY, GATEWAY_LEASE_S="3", **settings,
    )  # fmt: skip
    gateway.start()
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as http:
        try:
            yield Site(gateway, http, clock)
        finally:
            gateway.end(9)


class Site:
    """A gateway, and a worker as the test plays it."""

    def __init__(self, gateway: Gateway, http: httpx.Client, clock: Path) -> None:
        self.gateway, self.http, self._clock = gateway, http, clock

    def create(self) -> httpx.Response:
        return self.http.post("/api/queue/create", json=edit())

    def take(self) -> Any:
        answer = self.http.get("/v2/own/job-take/gpu-1?gpu=x", headers=worker_auth())
        return answer.json() if answer.status_code == 200 else None

    def done(self, job_id: str) -> int:
        route = f"/v2/own/job-done/gpu-1/{job_id}?gpu=x&isStream=false"
        body = success(picture(seed=9))
        return self.http.post(route, headers=worker_auth(), json=body).status_code

    def ping(self, job_id: str) -> None:
        self.http.get(f"/v2/own/ping/gpu-1?job_id={job_id}", headers=worker_auth())

    def status(self, job_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/api/queue/status/{job_id}").raise_for_status().json())

    def wait(self, job_id: str, status: str) -> dict[str, Any]:
        wait_until(
            lambda: self.status(job_id)["status"] == status, status, 60,
            lambda: f"{self.status(job_id)}\n{self.gateway.tail()}",
        )  # fmt: skip
        return self.status(job_id)

    def run(self) -> dict[str, Any]:
        """A job from first to last."""
        job_id = self.create().raise_for_status().json()["job_id"]
        assert self.take()["id"] == job_id
        assert self.done(job_id) == 200
        return self.wait(job_id, "succeeded")

    def set_clock(self, ahead_s: int) -> None:
        new = self._clock.with_suffix(".new")
        new.write_text(str(ahead_s * 1000))
        new.replace(self._clock)


def test_a_full_disk_refuses_new_jobs_and_ends_none(tmp_path: Path) -> None:
    """Database, pictures and log are on it."""
    with serving(tmp_path) as site:
        job_id = site.create().json()["job_id"]
        site.gateway.limit_files(0)
        refused = site.create()
        assert refused.status_code in (503, 507), refused.text
        assert refused.json()["code"] in ("store_unavailable", "disk_full")
        assert refused.json()["retryable"] is True
        assert site.status(job_id)["status"] == "queued"
        site.gateway.limit_files(None)
        # Its steps, which could not even log, are all still there.
        assert site.take()["id"] == job_id
        assert site.done(job_id) == 200
        assert site.wait(job_id, "succeeded")["attempts"] == 1
        silent = site.create().json()["job_id"]
        assert site.take()["id"] == silent
        wait_until(lambda: (site.take() or {}).get("id") == silent, "the next try", 60)


def test_a_database_that_another_locks_makes_callers_wait_and_no_longer(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        site.run()
        path = tmp_path / "data" / "gateway.sqlite"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(httpx.ReadTimeout):
                site.http.post("/api/queue/create", json=edit(request_id="mine"), timeout=2)
            assert site.http.get("/health").status_code == 200
            other.execute("ROLLBACK")
        again = site.http.post("/api/queue/create", json=edit(request_id="mine")).json()
        assert again["deduplicated"] is True, "the first one was written when it could be"
        assert site.take()["id"] == again["job_id"]


def test_postgresql_that_is_killed_and_comes_back_is_used_again(tmp_path: Path) -> None:
    postgres = Postgres()
    try:
        database = Database(postgres.url)
        migrate(database)
        database.close()
        with serving(tmp_path, GATEWAY_DATABASE_URL=postgres.url) as site:
            waiting = site.run() and site.create().json()["job_id"]
            assert site.take()["id"] == waiting
            postgres.kill()
            refused = site.create()
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
            assert site.done(waiting) == 503
            assert site.http.get("/health").status_code == 200
            ready = site.http.get("/ready")
            assert ready.status_code == 503
            assert "database_unavailable" in [one["code"] for one in ready.json()["reasons"]]
            postgres.start()
            assert site.done(waiting) == 200, "a worker sends its result until it is taken"
            assert site.wait(waiting, "succeeded")["attempts"] == 1
            site.run()
    finally:
        postgres.kill()
        shutil.rmtree(postgres.folder, ignore_errors=True)


def test_a_result_that_the_bucket_does_not_take_is_not_lost(tmp_path: Path) -> None:
    with BreakingBucket() as bucket, serving(tmp_path, **bucket.env()) as site:
        job_id = site.create().json()["job_id"]
        assert site.take()["id"] == job_id
        bucket.mood = "refuses"
        assert site.done(job_id) == 503
        assert site.status(job_id)["status"] == "running"
        bucket.mood = "good"
        assert site.done(job_id) == 200
        assert site.wait(job_id, "succeeded")["attempts"] == 1


def test_a_job_whose_pictures_the_bucket_does_not_give_uses_up_no_try(tmp_path: Path) -> None:
    with BreakingBucket() as bucket, serving(tmp_path, **bucket.env()) as site:
        job_id = site.create().json()["job_id"]
        bucket.mood = "refuses"
        assert site.take() is None
        assert site.status(job_id)["status"] == "queued"
        bucket.mood = "good"
        wait_until(lambda: (site.take() or {}).get("id") == job_id, "the job", 60)
        assert site.done(job_id) == 200
        assert site.wait(job_id, "succeeded")["attempts"] == 1


@pytest.mark.parametrize("jump_s", [-7200, 7200])
def test_a_clock_that_is_set_takes_no_job_from_its_worker_and_delays_none(
    tmp_path: Path, jump_s: int
) -> None:
    with serving(tmp_path) as site:
        held, waiting = (site.create().json()["job_id"] for _ in range(2))
        assert site.take()["id"] == held
        site.set_clock(jump_s)
        site.ping(held)
        assert site.take()["id"] == waiting, "it waits no two hours"
        assert site.done(held) == 200
        assert site.wait(held, "succeeded")["attempts"] == 1


def test_a_clock_that_was_set_back_over_a_restart_delays_no_job(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        job_id = site.create().json()["job_id"]
        site.gateway.end(9)
        site.set_clock(-7200)
        site.gateway.start()
        assert site.take()["id"] == job_id
        assert site.done(job_id) == 200
        site.wait(job_id, "succeeded")
