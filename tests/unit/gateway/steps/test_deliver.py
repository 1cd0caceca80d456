"""Hooks from the end of a job to the caller's server, with tries that fail, crashes between, and
several processes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from gateway.hooks.sender import HookSender
from gateway.job import RAW, Job
from gateway.objects import DiskObjects
from gateway.steps.deliver import Deliverer
from gateway.store.database import Database
from gateway.store.forget import forget
from gateway.store.hooks import Hooks
from gateway.store.jobs import JobStore
from tests.fakes.hook_receiver import HookReceiver
from tests.jobs import NOW, FakeClock, make_job

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DAY_MS = 86_400_000


class Site:
    def __init__(self, database: Database, folder: Path, receiver: HookReceiver) -> None:
        self.store, self.clock = JobStore(database), FakeClock()
        self.objects = DiskObjects(folder)
        self.hooks, self.receiver = Hooks(database), receiver

    def end_job(self, **values: Any) -> Job:
        job = self.store.create(make_job(webhook_url=self.receiver.url, **values))[0]
        ended = self.store.cancel(job.id, self.clock.now())
        assert ended is not None
        return ended

    def step(self) -> int:
        """By a process of its own."""

        async def run() -> int:
            sender = HookSender(SECRET, [self.receiver.host])
            deliverer = Deliverer(self.store, self.objects, self.clock, sender, "", lambda: 0.0)
            try:
                return await deliverer.step()
            finally:
                await sender.aclose()

        return asyncio.run(run())


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Iterator[Site]:
    with HookReceiver() as receiver:
        yield Site(database, tmp_path, receiver)


def test_a_hook_is_delivered_once(site: Site) -> None:
    job = site.end_job()
    assert site.step() == 1
    [hook] = site.receiver.hooks
    assert Webhook(SECRET).verify(hook.body, dict(hook.headers))["data"]["job_id"] == job.id
    site.clock.at += 9 * DAY_MS
    assert site.step() == 0
    assert site.hooks.of(job.id) == {
        "attempts": 1, "answer": "200", "due_at": NOW, "ended_at": NOW,
    }  # fmt: skip


def test_a_job_without_an_address_has_no_hook(site: Site) -> None:
    job = site.store.create(make_job())[0]
    site.store.cancel(job.id, NOW)
    assert site.step() == 0
    assert site.hooks.of(job.id) is None


def test_a_hook_that_is_not_taken_is_sent_for_days_under_one_id(site: Site) -> None:
    site.receiver.draw = lambda _hook: 500
    job = site.end_job()
    waits = []
    while (found := site.hooks.of(job.id)) and found["ended_at"] is None:
        waits.append(found["due_at"] - site.clock.at)
        site.clock.at = found["due_at"]
        assert site.step() == 1
    assert waits == sorted(waits)
    assert 3 * DAY_MS < site.clock.at - NOW < 5 * DAY_MS
    assert len(site.receiver.hooks) == found["attempts"] == 10
    assert len({hook.headers["webhook-id"] for hook in site.receiver.hooks}) == 1
    site.clock.at += DAY_MS
    assert site.step() == 0


def test_410_ends_it(site: Site) -> None:
    site.receiver.answer_next(410)
    job = site.end_job()
    assert site.step() == 1
    site.clock.at += DAY_MS
    assert site.step() == 0
    assert site.hooks.of(job.id)["answer"] == "410"


def test_retry_after_is_kept_to(site: Site) -> None:
    site.receiver.answer_next(503, retry_after="600")
    job = site.end_job()
    site.step()
    assert site.hooks.of(job.id)["due_at"] == NOW + 600_000
    site.clock.at += 599_000
    assert site.step() == 0
    site.clock.at += 1_000
    assert site.step() == 1
    assert site.hooks.of(job.id)["answer"] == "200"


def test_a_process_that_dies_amid_a_delivery_leaves_it_to_another(site: Site) -> None:
    job = site.end_job()
    [held] = site.hooks.claim(NOW, NOW + 60_000, 5)
    assert site.step() == 0
    site.clock.at += 60_000
    assert site.step() == 1
    assert not site.hooks.settle(held, "200", NOW, NOW), "the dead one comes back"
    assert site.hooks.of(job.id)["attempts"] == 1


def test_a_restart_on_sqlite_need_not_wait_for_the_dead(site: Site) -> None:
    site.end_job()
    site.hooks.claim(NOW, NOW + 60_000, 5)
    site.hooks.free_leases()
    assert site.step() == 1


def test_no_hook_tells_of_a_job_that_its_owner_has_deleted(site: Site) -> None:
    job = site.end_job()
    forget(site.store, job, NOW)
    assert site.step() == 0
    assert site.receiver.hooks == []


@pytest.mark.parametrize(("output", "is_told"), [({"a": 1}, True), ("x" * 30_000, False)])
def test_the_output_of_runpods_api_goes_along_where_it_is_small(
    site: Site, output: Any, is_told: bool
) -> None:
    site.objects.put("outputs/x/1.json", json.dumps({"output": output}).encode())
    site.end_job(kind=RAW, output_key="outputs/x/1.json")
    site.step()
    told = json.loads(site.receiver.hooks[0].body)
    assert told.get("output") == (output if is_told else None)
