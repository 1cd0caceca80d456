"""A model of an endpoint on RunPod: a queue, workers that come and go, one GPU in each.

It keeps to what RunPod documents and this worker does: a worker is added for a job
that has waited `queue_delay_s`, and leaves after `idle_timeout_s` without a job; it takes jobs in
the order in which workers began to ask; after its hands were full it asks again `fetch_gap_s`
after a job's end; it is paid from its start to its end. Times are seconds.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Edit:
    """What one job takes: before the GPU, on it, after it."""

    prepare_s: float
    execute_s: float
    finish_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How an endpoint is set up. `start_s` is from a worker's start to its first edit; `active`
    workers are there from the beginning and never leave."""

    start_s: float
    in_hand: int
    idle_timeout_s: float
    active: int
    most_workers: int
    queue_delay_s: float = 4.0
    fetch_gap_s: float = 0.1


@dataclass(slots=True)
class Job:
    """`worker` counts workers in the order of their starts."""

    edit: Edit
    arrived_s: float
    worker: int | None = None
    taken_s: float | None = None
    begun_s: float | None = None
    done_s: float | None = None


@dataclass(slots=True)
class WorkerLife:
    started_s: float
    warm_s: float
    ended_s: float | None = None
    busy_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """`until_s` is when the last job was done, and every worker that may leave had left."""

    jobs: list[Job]
    lives: list[WorkerLife] = field(default_factory=list)
    until_s: float = 0.0

    @property
    def paid_s(self) -> float:
        ends = (self.until_s if life.ended_s is None else life.ended_s for life in self.lives)
        return sum(end - life.started_s for end, life in zip(ends, self.lives, strict=True))

    @property
    def busy_s(self) -> float:
        return sum(life.busy_s for life in self.lives)


def simulate(plan: Plan, arrivals: Sequence[tuple[float, Edit]], *, least_s: float = 0) -> Outcome:
    """Run every job to its end; active workers are paid for `least_s` at least."""
    env = simpy.Environment()
    outcome = Outcome([Job(edit, arrived_s) for arrived_s, edit in arrivals])
    _Fleet(env, plan, outcome)
    env.run()
    # Not env.now: clocks that nobody waits for any more run on.
    ends = [job.done_s or 0.0 for job in outcome.jobs]
    ends += [life.ended_s or 0.0 for life in outcome.lives]
    outcome.until_s = max([least_s, *ends])
    return outcome


class _Fleet:
    def __init__(self, env: simpy.Environment, plan: Plan, outcome: Outcome) -> None:
        self._env = env
        self._plan = plan
        self._outcome = outcome
        self._queue = simpy.Store(env)
        self._present = 0
        self._starting = 0
        for _ in range(plan.active):
            env.process(self._worker(start_s=0, stays=True))
        for job in outcome.jobs:
            env.process(self._arrive(job))

    def _arrive(self, job: Job) -> Steps:
        # Waited for from the start, each by itself: in floating point, the waits from one arrival
        # to the next do not add up to the arrivals, and one between equal times may be negative.
        yield self._env.timeout(job.arrived_s)
        self._queue.put(job)
        yield self._env.timeout(self._plan.queue_delay_s)
        late = sum(1 for waiting in self._queue.items if waiting.arrived_s <= job.arrived_s)
        may_start = self._present < self._plan.most_workers
        if job.taken_s is None and self._starting < late and may_start:
            self._env.process(self._worker(start_s=self._plan.start_s, stays=False))

    def _worker(self, *, start_s: float, stays: bool) -> Steps:
        number = len(self._outcome.lives)
        life = WorkerLife(self._env.now, self._env.now + start_s)
        self._outcome.lives.append(life)
        self._present += 1
        self._starting += 1
        yield self._env.timeout(start_s)
        self._starting -= 1
        yield from _JobSlots(self._env, self._plan, self._queue, life, number).work(stays=stays)
        self._present -= 1
        life.ended_s = self._env.now


class _JobSlots:
    """The jobs that a worker holds, and its GPU."""

    def __init__(
        self, env: simpy.Environment, plan: Plan, queue: simpy.Store, life: WorkerLife, number: int
    ) -> None:
        self._env = env
        self._plan = plan
        self._queue = queue
        self._life = life
        self._number = number
        self._gpu = simpy.Resource(env)
        self._held = 0
        self._freed = env.event()
        self._idle_since_s = env.now

    def work(self, *, stays: bool) -> Steps:
        """Take and run jobs, until it has been idle for too long."""
        asked: Any = None
        while True:
            if self._held == self._plan.in_hand:
                yield self._freed
                yield self._env.timeout(self._plan.fetch_gap_s)
                continue
            asked = asked or self._queue.get()
            may_leave = not self._held and not stays
            yield asked | (self._idle_timeout() if may_leave else self._freed)
            if asked.triggered:
                self._held += 1
                self._env.process(self._edit(asked.value))
                asked = None
            elif may_leave:
                asked.cancel()
                return

    def _idle_timeout(self) -> simpy.Event:
        left_s = self._idle_since_s + self._plan.idle_timeout_s - self._env.now
        return self._env.timeout(max(0.0, left_s))

    def _edit(self, job: Job) -> Steps:
        job.worker, job.taken_s = self._number, self._env.now
        yield self._env.timeout(job.edit.prepare_s)
        with self._gpu.request() as turn:
            yield turn
            job.begun_s = self._env.now
            yield self._env.timeout(job.edit.execute_s)
            self._life.busy_s += job.edit.execute_s
        yield self._env.timeout(job.edit.finish_s)
        job.done_s = self._env.now
        self._held -= 1
        self._idle_since_s = self._env.now
        freed, self._freed = self._freed, self._env.event()
        freed.succeed()
