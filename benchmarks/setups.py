"""Every setup of an endpoint that is compared, under every load."""

import argparse
import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fleet import Edit, Outcome, Plan, simulate
from benchmarks.load import Load, bursts, day

IN_HAND = (1, 2)
WEIGHTS = ("baked", "volume")
IDLE_TIMEOUTS_S = (5, 30, 60, 300)
ACTIVE = (0, 1)
_THOUSAND = 1000
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One setup under one load. `cost` is of a thousand edits, `idle` of the paid time."""

    load: str
    weights: str
    active: int
    idle_timeout_s: int
    in_hand: int
    median_s: float
    p95_s: float
    cost: float
    idle: float


def edit_of(answer: Mapping[str, Any]) -> Edit:
    """From timings in milliseconds: by themselves, in an answer, or in RunPod's `output`."""
    answer = answer.get("output", answer)
    timings = answer.get("timings", answer)
    return Edit(
        prepare_s=(timings["check"] + timings["inputs"]) / 1000,
        execute_s=timings["execute"] / 1000,
        finish_s=(timings["collect"] + timings["deliver"]) / 1000,
    )


def loads_of(options: argparse.Namespace) -> tuple[Load, ...]:
    edit = Edit(options.prepare_s, options.execute_s, options.finish_s)
    return (
        day(edit, options.seed, quiet_per_hour=options.quiet_per_hour,
            peak_per_hour=options.peak_per_hour),
        bursts(edit, options.seed, quiet_per_hour=options.quiet_per_hour,
               bursts_per_hour=options.bursts_per_hour, jobs_per_burst=options.jobs_per_burst),
    )  # fmt: skip


def compare(options: argparse.Namespace) -> Sequence[Row]:
    """A row for each load and each setup."""
    return [
        row_of(options, load, weights, active, idle_timeout_s, in_hand)
        for load, weights, active, idle_timeout_s, in_hand in itertools.product(
            loads_of(options), WEIGHTS, ACTIVE, IDLE_TIMEOUTS_S, IN_HAND
        )
    ]


def row_of(
    options: argparse.Namespace, load: Load, weights: str, active: int, idle_timeout_s: int,
    in_hand: int,
) -> Row:  # fmt: skip
    mb_per_s = {"baked": options.baked_mb_per_s, "volume": options.volume_mb_per_s}[weights]
    plan = Plan(
        # The weights are read while ComfyUI boots.
        start_s=max(options.boot_s, options.weights_gb * 1000 / mb_per_s),
        in_hand=in_hand, idle_timeout_s=idle_timeout_s, active=active,
        most_workers=options.most_workers, queue_delay_s=options.queue_delay_s,
        fetch_gap_s=options.fetch_gap_s,
    )  # fmt: skip
    outcome = simulate(plan, load.arrivals, least_s=load.hours * _HOUR_S)
    waits_s = waits_of(outcome)
    return Row(
        load.name, weights, active, idle_timeout_s, in_hand,
        statistics.median(waits_s), statistics.quantiles(waits_s, n=20)[-1],
        outcome.paid_s / _HOUR_S * options.price_per_hour / len(waits_s) * _THOUSAND,
        1 - outcome.busy_s / outcome.paid_s,
    )  # fmt: skip


def waits_of(outcome: Outcome) -> list[float]:
    """Seconds from a job's arrival until the GPU begins it, in a worker's hands or not."""
    return [job.begun_s - job.arrived_s for job in outcome.jobs if job.begun_s is not None]
