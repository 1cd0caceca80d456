"""One siege from first to last: jobs under faults, then everything is counted."""

import base64
import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
from standardwebhooks import Webhook

from gateway.job import FINAL, RAW
from gateway.store.migrate import migrate
from tests.fakes.hook_receiver import Hook, HookReceiver
from tests.fakes.runpod_cloud import RunPodCloud
from tests.fakes.runpod_oddities import Mischief
from tests.gateways import WORKER_KEY
from tests.siege.books import Books
from tests.siege.callers import Asked, Callers, is_of
from tests.siege.faults import Faults
from tests.siege.processes import Gateway, Gpu, Postgres, Size, wait_until
from tests.siege.store import BreakingBucket

_LEASE_S = 2.0
_SETTLE_S = 240.0
_MORE_FILES, _MORE_THREADS, _MORE_BYTES = 24, 24, 40_000_000
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_FINAL = ("succeeded", "failed", "cancelled")


@dataclass
class Siege:
    """On one database: `sqlite`, with pictures on the disk, or `postgresql`, with two gateways and
    a bucket. `run` says how it went, or raises AssertionError."""

    engine: str
    seed: int
    jobs: int
    folder: Path
    _public_url: str = ""

    def run(self) -> dict[str, Any]:
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            self._build(stack)
            self._callers.send(6)
            with self._faults.happening(with_kills=True):
                self._callers.send(self.jobs // 2)
            self._settle()
            before = [gateway.size() for gateway in self._gateways]
            with self._faults.happening(with_kills=False):
                self._callers.send(self.jobs - self.jobs // 2)
            self._settle()
            self._check_sizes(before)
            self._restart()
            self._check_jobs()
            self._check_hooks()
            self._books.sweep_later()
            self._check_objects()
            self._check_runpod()
        return {
            "engine": self.engine, "seed": self.seed, "jobs": len(self._callers.asked),
            "ended": dict(self._ended), "faults": dict(Counter(self._faults.log)),
            "seconds": round(time.monotonic() - began),
        }  # fmt: skip

    def _build(self, stack: contextlib.ExitStack) -> None:
        draw = random.Random(self.seed)
        self._clock_file = self.folder / "clock"
        self._clock_file.write_text("0")
        self._cloud = stack.enter_context(RunPodCloud(hook_gap_s=0.5))
        self._cloud.mischief = Mischief(draw.randrange(10**9), 0.1)
        self._receiver = stack.enter_context(HookReceiver())
        self._receiver.draw = self._answer_hook
        self._bucket = self._postgres = None
        if self.engine == "postgresql":
            self._bucket = stack.enter_context(BreakingBucket())
            self._postgres = Postgres()
            stack.callback(shutil.rmtree, self._postgres.folder, ignore_errors=True)
            stack.callback(self._postgres.kill)
        url = self._postgres.url if self._postgres else f"sqlite:///{self._sqlite}"
        self._books = Books(url, self.folder / "data", self._bucket)
        if self._postgres is not None:
            with self._books.database() as database:
                migrate(database)
        self._gateways = [self._gateway(n) for n in range(2 if self.engine == "postgresql" else 1)]
        for gateway in self._gateways:
            gateway.start()
            stack.callback(_end, gateway)
        urls = [gateway.url for gateway in self._gateways]
        self._gpus = [Gpu(self.folder, f"gpu-{n}", self.seed, WORKER_KEY, urls) for n in range(2)]
        for gpu in self._gpus:
            gpu.start()
            stack.callback(_end, gpu)
        self._callers = Callers(urls, self.seed, self._receiver.url)
        self._faults = Faults(
            draw.randrange(10**9), self._gateways, self._gpus, self._cloud, self._clock_file,
            _LEASE_S, None if self._postgres else self._sqlite, self._postgres, self._bucket,
        )  # fmt: skip

    @property
    def _sqlite(self) -> Path:
        return self.folder / "data" / "gateway.sqlite"

    def _answer_hook(self, hook: Hook) -> int:
        """At the second try it is taken: the third would be minutes later."""
        count = sum(
            hook.headers["webhook-id"] == one.headers["webhook-id"] for one in self._receiver.hooks
        )
        return random.choice([200, 200, 200, 500, 0]) if count < 2 else 200

    def _gateway(self, number: int) -> Gateway:
        settings = {
            "GATEWAY_DATA_DIR": str(self.folder / "data"),
            "GATEWAY_WORKER_KEY": WORKER_KEY,
            "GATEWAY_LEASE_S": str(_LEASE_S),
            # So that no job fails because it has met too many faults: each must succeed.
            "GATEWAY_ATTEMPTS": "100",
            "GATEWAY_OPEN_JOBS": "100000",
            "GATEWAY_ROUTE": "own-first",
            "GATEWAY_BURST_AFTER_S": "0.5",
            "GATEWAY_WEBHOOK_SECRET": _SECRET,
            "GATEWAY_WEBHOOK_HOSTS": self._receiver.host,
            **self._cloud.env(),
        }
        if self._postgres is not None and self._bucket is not None:
            settings |= {"GATEWAY_DATABASE_URL": self._postgres.url, **self._bucket.env()}
        gateway = Gateway(self.folder, f"gateway-{number}", self._clock_file, **settings)
        self._public_url = self._public_url or gateway.url
        gateway.set(GATEWAY_PUBLIC_URL=self._public_url)
        return gateway

    def _settle(self) -> None:
        """Until every job has ended."""
        open_ = [asked.job_id for asked in self._callers.asked]

        def all_ended() -> bool:
            open_[:] = [job_id for job_id in open_ if self._status(job_id)["status"] not in _FINAL]
            return not open_

        wait_until(all_ended, "the end of every job", _SETTLE_S, lambda: self._tell(open_))

    def _status(self, job_id: str) -> dict[str, Any]:
        return self._get(f"/api/queue/status/{job_id}").json()

    def _get(self, path: str) -> httpx.Response:
        url = urljoin(self._gateways[0].url, path)
        answer = httpx.get(url, timeout=60, trust_env=False, follow_redirects=True)
        assert answer.status_code == 200, (path, answer.text, self._gateways[0].tail())
        return answer

    def _tell(self, job_ids: list[str]) -> str:
        told = [str(self._status(job_id)) for job_id in job_ids[:3]]
        return "\n".join([self._name, *told, *(gateway.tail() for gateway in self._gateways)])

    @property
    def _name(self) -> str:
        return f"{self.engine} seed {self.seed}: {self._faults.log}"

    def _check_sizes(self, before: list[Size]) -> None:
        """Connections that nobody uses any more are let go after a while."""

        def is_as_before(gateway: Gateway, size: Size) -> bool:
            now = gateway.size()
            return (
                now.files <= size.files + _MORE_FILES
                and now.threads <= size.threads + _MORE_THREADS
                and now.bytes <= size.bytes + _MORE_BYTES
            )

        for gateway, size in zip(self._gateways, before, strict=True):
            wait_until(
                lambda gateway=gateway, size=size: is_as_before(gateway, size),
                "files, threads and memory as before", 90,
                lambda gateway=gateway, size=size: f"{self._name}\n{size}\n{gateway.size()}",
            )  # fmt: skip

    def _restart(self) -> None:
        """No fault was one of the gateway's own."""
        for gateway in self._gateways:
            assert gateway.end(signal.SIGTERM) == 0, gateway.tail()
            assert "Traceback" not in gateway.log(), f"{self._name}\n{_traceback(gateway.log())}"
        for gateway in self._gateways:
            gateway.start()

    def _check_jobs(self) -> None:
        self._ended: Counter[str] = Counter()
        for asked in self._callers.asked:
            status = self._status(asked.job_id)
            self._ended[status["status"]] += 1
            if status["status"] == "failed":
                # The one failure here that is the worker's last word.
                assert status["error"]["code"] == "worker_error", f"{self._name}\n{status}"
            elif status["status"] != "cancelled" or not asked.is_cancelled:
                assert status["status"] == "succeeded", f"{self._name}\n{status}"
                data = self._picture(asked, status)
                assert data is None or is_of(asked, data), f"{self._name}\n{status}"
        for job_id, states in self._books.history().items():
            assert len([state for state in states if state in FINAL]) == 1, (
                self._name,
                job_id,
                states,
            )
            assert states[-1] in FINAL, (self._name, job_id, states)

    def _picture(self, asked: Asked, status: dict[str, Any]) -> bytes | None:
        """None where a raw job's worker has answered without one: its answer passes unread."""
        if asked.kind == RAW:
            output = self._get(f"/v2/own/status/{asked.job_id}").json().get("output") or {}
            return base64.b64decode(output["image_base64"]) if output.get("images") else None
        assert len(status["results"]) == 1, f"{self._name}\n{status}"
        return self._get(status["result_url"]).content

    def _check_objects(self) -> None:
        """Inputs of jobs that are known, the answers of raw jobs, one picture an edit."""
        results = {
            entry["key"]
            for asked in self._callers.asked
            for entry in self._status(asked.job_id)["results"]
        }
        wrong = self._books.wrong_objects(self._callers.asked, results)
        assert not wrong, f"{self._name}\n{wrong[:20]}"

    def _check_hooks(self) -> None:
        """One for each job that has ended, once at least, of one body, under one id, signed."""

        def missing() -> set[str]:
            told = {hook.headers["webhook-id"] for hook in self._receiver.hooks}
            return {f"msg_{asked.job_id}" for asked in self._callers.asked} - told

        wait_until(lambda: not missing(), "all hooks", 120, lambda: f"{self._name}\n{missing()}")
        bodies: dict[str, set[bytes]] = {}
        for hook in self._receiver.hooks:
            assert Webhook(_SECRET).verify(hook.body, dict(hook.headers))
            bodies.setdefault(hook.headers["webhook-id"], set()).add(hook.body)
        for message_id, different in bodies.items():
            assert len(different) == 1, (self._name, message_id, different)

    def _check_runpod(self) -> None:
        """Nothing runs there for nothing, which would cost money."""
        wait_until(
            lambda: all(job.is_final for job in self._cloud.jobs.values()), "an idle RunPod", 60,
            lambda: f"{self._name}\n{[j for j in self._cloud.jobs.values() if not j.is_final]}",
        )  # fmt: skip


def _end(process: Gateway | Gpu) -> None:
    if not process.has_ended():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.end(signal.SIGKILL)


def _traceback(log: str) -> str:
    return log[log.index("Traceback") - 500 :][:4000]
