"""What RunPod's job API does besides what it says: faults of a request, oddities of a job."""

import json
import random
from dataclasses import dataclass
from typing import Literal

_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>Error {0}</h1></body></html>"
JSON_ERROR = json.dumps(
    {
        "error_type": "<class 'RuntimeError'>",
        "error_message": "CUDA error: an illegal memory access was encountered",
        "error_traceback": 'Traceback (most recent call last):\n  File "/opt/handler/x.py", line 1',
        "hostname": "host-64410ff2",
        "worker_id": "w-1",
        "runpod_version": "1.12.0",
    }
)
# Of a request: before anything is done, but for "lost" and "garbage", which hide what was done;
# "slow" comes late to do it, "late" to tell of it.
FAULTS: dict[str, tuple[int, dict[str, str], str]] = {
    "unauthorized": (401, {}, ""),
    "unauthorized_page": (401, {"Content-Type": "text/html"}, _PAGE.format(401)),
    "forbidden": (403, {"Content-Type": "text/html"}, _PAGE.format(403)),
    "throttled": (429, {}, "Too Many Requests"),
    "throttled_for_1_s": (429, {"Retry-After": "1"}, ""),
    **{
        str(status): (status, {"Content-Type": "text/html"}, _PAGE.format(status))
        for status in (500, 502, 503, 504, 520, 522, 524)
    },
    "not_found": (404, {}, ""),
    "cut": (0, {}, ""),
    "lost": (0, {}, ""),
    "garbage": (200, {"Content-Type": "text/html"}, "<html>one moment, please"),
    "slow": (0, {}, ""),
    "late": (0, {}, ""),
}
HARMLESS = tuple(name for name in FAULTS if name not in ("forbidden", "not_found"))

Hook = Literal["once", "never", "early", "twice", "late"]


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """Of one job. `invisible_s`: /status says 404 so long after the submit."""

    invisible_s: float = 0.0
    cold_start_s: float = 0.0
    run_s: float = 0.0
    twice: bool = False
    no_output: bool = False
    raises: bool = False
    fails: str | None = None
    times_out: bool = False
    late_progress_s: float = 0.0
    hook: Hook = "once"


class Mischief:
    """Draws from every oddity, the same ones for the same seed and order of calls."""

    def __init__(self, seed: int, rate: float = 0.3) -> None:
        self._random, self._rate = random.Random(seed), rate

    def fault(self) -> str | None:
        return self._random.choice(HARMLESS) if self._random.random() < self._rate else None

    def oddity(self) -> Oddity:
        draw = self._random
        return Oddity(
            invisible_s=draw.choice([0, 0.3, 1.0]),
            cold_start_s=draw.choice([0, 0.2, 0.5]),
            run_s=draw.choice([0, 0.2, 0.5]),
            twice=draw.random() < self._rate,
            no_output=draw.random() < self._rate / 2,
            raises=draw.random() < self._rate / 3,
            late_progress_s=draw.choice([0, 0, 0.5]),
            hook=draw.choice(["once", "never", "early", "twice", "late"]),
        )
