"""What edits cost, and which lines of the books a job's change means. Pure.

A job's price is held when it is made, and settled or released when it ends; so a job has one line
of each at most. The store writes them where it writes the change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from gateway.errors import InvalidRequest, NotEnoughCredits
from gateway.job import RAW, Job, JobState
from gateway.lifecycle import Change

FAST, FINE = "fast", "fine"
PRICES: Mapping[str, int] = MappingProxyType({FAST: 1, FINE: 5})
"""Credits of an edit. What may run longer than a fast edit costs as a fine one: a workflow, an
input that passes through unread, and steps, cfg or a LoRA's strength that mean more passes."""
START = 50
"""What every owner begins with."""
PACKAGES: Mapping[str, int] = MappingProxyType({"small": 20, "medium": 100, "large": 500})
"""Credits by the package's id."""
MOST = 1_000_000
"""Beyond it nothing is sold: a balance stays a number that every program holds."""

_FAST_STEPS = 4


class LineKind(StrEnum):
    START = "start"
    BUY = "buy"
    HOLD = "hold"
    SETTLE = "settle"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Line:
    """`amount` is added to the balance, `held` to what is held for jobs that have not ended."""

    kind: LineKind
    amount: int
    held: int = 0
    job_id: str | None = None
    request_id: str | None = None
    """The caller's, of a purchase."""
    package: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An owner's credits as they stand after line `seq`."""

    seq: int = 0
    balance: int = START
    held: int = 0

    def after(self, line: Line) -> "Account":
        """Raises NotEnoughCredits, and InvalidRequest above MOST."""
        found = Account(self.seq + 1, self.balance + line.amount, self.held + line.held)
        if found.balance < 0:
            raise NotEnoughCredits(
                f"the edit costs {-line.amount} credits and there are {self.balance}; "
                "buy more with POST /api/credits/buy"
            )
        if line.kind is LineKind.BUY and found.balance > MOST:
            raise InvalidRequest(f"package: the balance would be over {MOST} credits")
        return found


def opening() -> Line:
    """The first line of every account."""
    return Line(LineKind.START, START)


def purchase(package: str, request_id: str | None) -> Line:
    """Raises InvalidRequest."""
    if package not in PACKAGES:
        raise InvalidRequest(f"package must be one of: {', '.join(PACKAGES)}")
    return Line(LineKind.BUY, PACKAGES[package], request_id=request_id, package=package)


def line_of_new(job: Job) -> Line:
    cost = price_of(job)
    return Line(LineKind.HOLD, -cost, cost, job.id)


def line_of_change(change: Change, held: int) -> Line | None:
    """`held` is what is held for the job; None while the job goes on, tried again or not."""
    if not held:
        return None
    match change.new_state:
        case JobState.SUCCEEDED:
            return Line(LineKind.SETTLE, 0, -held, change.job_id)
        case JobState.FAILED | JobState.CANCELLED:
            return Line(LineKind.RELEASE, held, -held, change.job_id)
        case _:
            return None


def price_of(job: Job) -> int:
    return PRICES[FAST if _is_fast(job) else FINE]


def _is_fast(job: Job) -> bool:
    fields = job.input
    if job.kind == RAW or not isinstance(fields, Mapping) or "workflow" in fields:
        return False
    more = (
        fields.get("speed") == FINE,
        fields.get("steps", 0) > _FAST_STEPS,
        # Above 1 each step is done twice; without the LoRA there are more of them.
        fields.get("cfg", 1) > 1,
        fields.get("lora_strength", 1) == 0,
    )
    return not any(more)
