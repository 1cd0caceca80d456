"""When jobs come: a day with two peaks, or bursts out of a quiet hour. Deterministic by seed."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.fleet import Edit

_HOUR_S = 3600.0
_SPREAD = 0.1
_PEAKS_AT_H = (13.0, 20.0)
_PEAK_WIDTH_H = 1.5


@dataclass(frozen=True, slots=True)
class Load:
    """`arrivals` are seconds from the start, with what each job takes."""

    name: str
    hours: float
    arrivals: Sequence[tuple[float, Edit]]


def day(edit: Edit, seed: int, *, quiet_per_hour: float, peak_per_hour: float) -> Load:
    """A Poisson process whose rate has a peak after noon and one in the evening."""

    def per_hour(at_s: float) -> float:
        near = max(
            math.exp(-(((at_s / _HOUR_S - peak_h) / _PEAK_WIDTH_H) ** 2)) for peak_h in _PEAKS_AT_H
        )
        return quiet_per_hour + (peak_per_hour - quiet_per_hour) * near

    chance = random.Random(seed)
    return Load("day", 24, _jobs(chance, _poisson(chance, per_hour, peak_per_hour, 24), edit))


def bursts(
    edit: Edit, seed: int, *, quiet_per_hour: float, bursts_per_hour: float, jobs_per_burst: int,
    hours: float = 24,
) -> Load:  # fmt: skip
    """Single jobs now and then, and bursts, in which a job follows another by a second."""
    chance = random.Random(seed)
    times = _poisson(chance, lambda _: quiet_per_hour, quiet_per_hour, hours)
    for begin_s in _poisson(chance, lambda _: bursts_per_hour, bursts_per_hour, hours):
        at_s = begin_s
        for _ in range(jobs_per_burst):
            times.append(at_s)
            at_s += chance.expovariate(1.0)
    return Load("bursts", hours, _jobs(chance, times, edit))


def _poisson(
    chance: random.Random, per_hour: Callable[[float], float], most_per_hour: float, hours: float
) -> list[float]:
    """Times of a Poisson process with a rate that changes, by thinning one with the highest."""
    times = []
    at_s = chance.expovariate(most_per_hour / _HOUR_S)
    while at_s < hours * _HOUR_S:
        if chance.random() * most_per_hour < per_hour(at_s):
            times.append(at_s)
        at_s += chance.expovariate(most_per_hour / _HOUR_S)
    return times


def _jobs(
    chance: random.Random, times: Sequence[float], edit: Edit
) -> Sequence[tuple[float, Edit]]:
    """Not all edits are alike: the time on the GPU differs by up to a tenth."""
    return [
        (at_s, Edit(edit.prepare_s, edit.execute_s * chance.uniform(1 - _SPREAD, 1 + _SPREAD),
                    edit.finish_s))
        for at_s in sorted(times)
    ]  # fmt: skip
