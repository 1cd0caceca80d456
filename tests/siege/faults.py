"""What happens to a gateway under siege, drawn one after the other."""

import contextlib
import json
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.fakes.runpod_cloud import RunPodCloud
from tests.siege.processes import Gateway, Gpu, Postgres
from tests.siege.store import BreakingBucket

HOUR_MS = 3_600_000


@dataclass
class Faults:
    """`with_kills`: gateways are killed and told to end, too."""

    seed: int
    gateways: Sequence[Gateway]
    gpus: Sequence[Gpu]
    cloud: RunPodCloud
    clock_file: Path
    lease_s: float
    sqlite: Path | None = None
    postgres: Postgres | None = None
    bucket: BreakingBucket | None = None
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    @contextlib.contextmanager
    def happening(self, with_kills: bool) -> Iterator[None]:
        ended, errors = threading.Event(), []

        def run() -> None:
            kinds = self._kinds(with_kills)
            try:
                while not ended.wait(self._draw.uniform(0.1, 0.8)):
                    fault = self._draw.choice(kinds)
                    self.log.append(fault.__name__)
                    fault()
            except BaseException as exc:
                errors.append(exc)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if errors:
            raise errors[0]

    def _kinds(self, with_kills: bool) -> list[Callable[[], None]]:
        kinds = [
            self.freeze_gateway, self.kill_gpu, self.freeze_gpu, self.set_clock, self.forge_hooks,
            self.refuse_key, self.fill_disk,
        ]  # fmt: skip
        if with_kills:
            kinds += [self.kill_gateway, self.kill_gateway, self.stop_gateway]
        if self.sqlite is not None:
            kinds.append(self.lock_database)
        if self.postgres is not None:
            kinds.append(self.restart_postgres)
        if self.bucket is not None:
            kinds.append(self.break_bucket)
        return kinds

    def kill_gateway(self) -> None:
        gateway = self._draw.choice(self.gateways)
        gateway.end(signal.SIGKILL)
        time.sleep(self._draw.uniform(0, 0.5))
        gateway.start()

    def stop_gateway(self) -> None:
        gateway = self._draw.choice(self.gateways)
        assert gateway.end(signal.SIGTERM) == 0, gateway.tail()
        gateway.start()

    def freeze_gateway(self) -> None:
        self._draw.choice(self.gateways).freeze(self._draw.uniform(0.2, 1.5 * self.lease_s))

    def kill_gpu(self) -> None:
        gpu = self._draw.choice(self.gpus)
        gpu.end(signal.SIGKILL)
        gpu.start()

    def freeze_gpu(self) -> None:
        self._draw.choice(self.gpus).freeze(self._draw.uniform(0.2, 1.5 * self.lease_s))

    def set_clock(self) -> None:
        """Forward or back."""
        new = self.clock_file.with_suffix(".new")
        new.write_text(str(self._draw.choice([-HOUR_MS, -5_000, 0, 5_000, HOUR_MS])))
        new.replace(self.clock_file)

    def forge_hooks(self) -> None:
        """Of strangers, of jobs that have not ended, and with another job's id."""
        url = self._draw.choice(self.gateways).url
        with contextlib.suppress(httpx.HTTPError), httpx.Client(timeout=5, trust_env=False) as http:
            stranger = f"{url}/api/runpod/webhook/{self._draw.randbytes(16).hex()}"
            for body in (b"", b"\xff" * 100, b"[" * 100_000, b'{"id": {}}'):
                assert http.post(stranger, content=body).status_code == 200
            jobs = list(self.cloud.jobs.values())[-20:]
            for job in self._draw.sample(jobs, min(3, len(jobs))):
                other = self._draw.choice(jobs)
                status = self._draw.choice(["IN_PROGRESS", "COMPLETED", "FAILED", "NONSENSE"])
                told = {"id": self._draw.choice([job, other]).id, "status": status}
                http.post(job.body["webhook"], content=json.dumps(told))

    def refuse_key(self) -> None:
        key, self.cloud.key = self.cloud.key, "another"
        time.sleep(self._draw.uniform(0.1, 1.0))
        self.cloud.key = key

    def fill_disk(self) -> None:
        """For the files of one gateway, database and pictures and log alike."""
        gateway = self._draw.choice(self.gateways)
        gateway.limit_files(0)
        time.sleep(self._draw.uniform(0.2, 1.5))
        gateway.limit_files(None)

    def lock_database(self) -> None:
        connection = sqlite3.connect(self.sqlite, isolation_level=None, timeout=20)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(self._draw.uniform(0.2, 1.5))
        connection.execute("ROLLBACK")
        connection.close()

    def restart_postgres(self) -> None:
        assert self.postgres is not None
        self.postgres.kill()
        time.sleep(self._draw.uniform(0, 0.5))
        self.postgres.start()

    def break_bucket(self) -> None:
        assert self.bucket is not None
        self.bucket.mood = self._draw.choice(["refuses", "breaks off", "is silent", "lost"])
        time.sleep(self._draw.uniform(0.2, 2.0))
        self.bucket.mood = "good"
