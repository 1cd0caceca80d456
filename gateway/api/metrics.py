"""What Prometheus may know; names begin with `gateway_`."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.job import Job

_BUCKETS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """`open_jobs` is asked on each scrape: state and back end to a number; `workers`, too."""

    def __init__(
        self,
        open_jobs: Callable[[], Mapping[tuple[str, str], int]],
        workers: Callable[[], int],
    ) -> None:
        self._registry = CollectorRegistry()
        self._ended = Counter(
            "gateway_jobs_ended_total", "Jobs that ended", ["state", "code"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "gateway_job_seconds", "From create to the end of jobs that ended well",
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self.created = Counter(
            "gateway_jobs_created_total", "Jobs that were accepted", registry=self._registry
        )
        self.late_results = Counter(
            "gateway_late_results_total", "Results that came after one that counts",
            registry=self._registry,
        )  # fmt: skip
        self.errors = Counter(
            "gateway_errors_total", "Requests answered with an error", ["code"],
            registry=self._registry,
        )  # fmt: skip
        self._registry.register(_Open(open_jobs, workers))

    def hear(self, job: Job) -> None:
        """Of each change of a job."""
        if job.state.is_final and job.updated_at == job.finished_at:
            self._ended.labels(job.state.public, job.error_code or "").inc()
            if job.error_code is None and job.finished_at is not None:
                self._seconds.observe((job.finished_at - job.created_at) / 1000)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Open(Collector):
    def __init__(
        self,
        open_jobs: Callable[[], Mapping[tuple[str, str], int]],
        workers: Callable[[], int],
    ) -> None:
        self._open_jobs = open_jobs
        self._workers = workers

    def describe(self) -> list[GaugeMetricFamily]:
        """None, so that registering asks nothing of the database."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "gateway_jobs_open", "Jobs that have not ended", labels=["state", "backend"]
        )
        for (state, backend), count in self._open_jobs().items():
            gauge.add_metric([state, backend], count)
        yield gauge
        yield GaugeMetricFamily("gateway_workers", "Own workers in touch", value=self._workers())
