"""The demo takes jobs as a worker does: through the same states, by a lease, until a cancel."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.demo import DemoWorker
from gateway.demo.worker import LEASE_MS
from gateway.job import DEMO, JobState, new_job_id
from gateway.objects import DiskObjects
from gateway.steps.finish import Finisher
from gateway.store.books import Books
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from gateway.store.reads import Reads
from tests.gateways import picture
from tests.jobs import NOW, FakeClock, make_job

PHOTO = picture(size=(96, 64))


class Bench:
    """`during` happens at each of the demo's pauses."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.clock = FakeClock()
        self.books = Books(database)
        self.store = JobStore(database, attempts=3, hear=self._hear, books=self.books)
        self.reads = Reads(database)
        self.objects = DiskObjects(folder, 10**9)
        self.seen: list[tuple[str, str | None, int | None]] = []
        self.during: Callable[[], Any] = lambda: None
        self.worker = self.make_worker("demo-1")

    def make_worker(self, process: str) -> DemoWorker:
        finisher = Finisher(
            self.store, self.objects, self.clock, _fetch_nothing, "results/", process
        )
        return DemoWorker(
            self.store, self.objects, self.clock, finisher.finish, process, self._pause
        )

    async def _pause(self, _seconds: float) -> None:
        found = self.during()
        if isinstance(found, Awaitable):
            await found
        await asyncio.sleep(0)

    def _hear(self, job: Any) -> None:
        self.seen.append((job.state, job.phase, job.percent))

    def made(self, photo: bytes = PHOTO, mask: bytes | None = None, **values: Any) -> str:
        job_id = new_job_id(NOW)
        placed: dict[str, Any] = {"images": [self.put(job_id, "0.png", photo)], "mask": None}
        if mask is not None:
            placed["mask"] = self.put(job_id, "mask.png", mask)
        values.setdefault("input", {"prompt": "x"})
        values.setdefault("pictures", placed)
        job = make_job(id=job_id, backend=DEMO, seed=7, **values)
        return self.store.create(job)[0].id

    def put(self, job_id: str, name: str, data: bytes) -> dict[str, Any]:
        key = f"inputs/{job_id}/{name}"
        self.objects.put(key, data)
        return {"name": name, "key": key}

    def step(self, worker: DemoWorker | None = None) -> int:
        return asyncio.run((worker or self.worker).step())

    def job(self, job_id: str) -> Any:
        found = self.store.get(job_id)
        assert found is not None
        return found

    def notes(self, job_id: str) -> list[str]:
        return [event["note"] for event in self.reads.history(job_id)]


def _fetch_nothing(url: str) -> bytes:
    raise AssertionError(url)


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Bench:
    return Bench(database, tmp_path)


def white_left(size: tuple[int, int] = (96, 64)) -> bytes:
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_job_passes_through_every_state_with_all_phases(bench: Bench) -> None:
    job_id = bench.made(mask=white_left())
    assert bench.step() == 1
    job = bench.job(job_id)
    assert job.state is JobState.SUCCEEDED
    assert job.pixels_changed_outside == 0
    assert (job.width, job.height, job.seed, job.backend) == (96, 64, 7, DEMO)
    assert bench.notes(job_id) == ["Created", "Taken", "ResultArrived", "Stored"]
    phases = list(dict.fromkeys(phase for _, phase, _ in bench.seen if phase))
    assert phases == ["wait", "execute", "deliver", "store"]
    percents = [percent for _, _, percent in bench.seen if percent is not None]
    assert percents == sorted(percents)
    assert len({percent for percent in percents if 10 <= percent < 99}) == 5
    with bench.objects.open(job.result_key) as file, Image.open(file) as result:
        assert result.size == (96, 64)
    assert bench.books.account("ann").held == 0


def test_nothing_to_do_is_no_work(bench: Bench) -> None:
    assert bench.step() == 0
    bench.store.create(make_job())
    assert bench.step() == 0


@pytest.mark.parametrize("input_", [{"speed": "fine"}, {"speed": "fast"}, {"speed": None}, {}])
def test_every_speed_is_shown(bench: Bench, input_: dict[str, Any]) -> None:
    job_id = bench.made(input=input_)
    bench.step()
    assert bench.job(job_id).state is JobState.SUCCEEDED


def test_a_cancel_stops_it_at_the_next_word(bench: Bench) -> None:
    job_id = bench.made()
    bench.during = lambda: bench.store.cancel(job_id, NOW)
    bench.step()
    job = bench.job(job_id)
    assert job.state is JobState.CANCELLED
    assert job.result_key is None
    assert bench.books.account("ann").balance == 50
    assert {phase for _, phase, _ in bench.seen} == {None, "wait", "execute"}
    assert bench.notes(job_id)[-2:] == ["CancelAsked", "Stopped"]


def test_a_job_of_a_dead_process_goes_to_the_next(bench: Bench) -> None:
    job_id = bench.made()

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    bench.during = die
    with pytest.raises(Killed):
        bench.step()
    bench.during = lambda: None
    assert bench.job(job_id).state is JobState.RUNNING
    assert bench.store.lose_silent(bench.clock.now(), 9) == []
    bench.clock.at += LEASE_MS + 1
    assert [job.id for job in bench.store.lose_silent(bench.clock.now(), 9)] == [job_id]
    bench.clock.at += 60_000
    assert bench.step(bench.make_worker("demo-2")) == 1
    assert bench.job(job_id).state is JobState.SUCCEEDED
    assert bench.job(job_id).tries == 2
    assert bench.books.account("ann").balance == 49


def test_who_lost_its_lease_says_no_more(bench: Bench) -> None:
    job_id = bench.made()
    other = bench.make_worker("demo-2")
    later = iter([True])

    async def stall() -> None:
        """The first time, for longer than a lease: then another does the job."""
        if next(later, False):
            bench.clock.at += LEASE_MS + 1
            assert bench.store.lose_silent(bench.clock.now(), 9)
            bench.clock.at += 60_000
            assert await other.step() == 1

    bench.during = stall
    bench.step()
    job = bench.job(job_id)
    assert job.state is JobState.SUCCEEDED
    assert len(list(bench.objects.folders(f"results/{job_id}/"))) == 1
    assert bench.notes(job_id).count("Stored") == 1
    assert bench.books.account("ann").balance == 49


def test_at_the_start_of_the_only_process_a_dead_ones_job_is_free(bench: Bench) -> None:
    job_id = bench.made()
    now = bench.clock.now()
    bench.store.take("dead", 1, now, now + LEASE_MS, DEMO)
    assert bench.store.free_leases(now, now + 30_000) == 1
    assert [job.id for job in bench.store.lose_silent(now, 9)] == [job_id]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"input": {"workflow": {}}}, "invalid_input"),
        ({"input": {"fit": "extend"}}, "invalid_input"),
        ({"pictures": {"images": [{"name": "a", "address": "https://a.example/a.png"}]}},
         "invalid_input"),
        ({"pictures": {"images": [{"name": "a", "key": "inputs/gone.png"}]}}, "input_gone"),
        ({"mask": b"no picture"}, "invalid_image"),
        ({"photo": PHOTO[:100]}, "invalid_image"),
    ],
    ids=["workflow", "extend", "address", "gone", "mask", "photo"],
)  # fmt: skip
def test_what_it_can_not_do_fails_with_the_reason_and_costs_nothing(
    bench: Bench, values: dict[str, Any], code: str
) -> None:
    job_id = bench.made(**values)
    bench.step()
    job = bench.job(job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, code)
    assert job.error_message
    assert bench.books.account("ann").balance == 50
