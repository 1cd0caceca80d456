"""RunPod's status object, or its hook's body, which has the same form: what it says of a job. Pure.

Only `id` and `status` are sure to be there. `error` is a string; that of an exception is JSON text
with a trace, which nobody outside may see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidOutput, WorkerError
from gateway.job import Fault
from gateway.report import fault_of, presentable, progress_of
from handler.errors import WorkerError as HandlerError


@dataclass(frozen=True, slots=True)
class Waiting:
    """In RunPod's queue, or in a state that is not known here."""


@dataclass(frozen=True, slots=True)
class Working:
    """On a GPU. What progress says may be missing."""

    phase: str | None = None
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """`output` is what the worker returned; None where RunPod has none."""

    output: Any


@dataclass(frozen=True, slots=True)
class Failed:
    fault: Fault


@dataclass(frozen=True, slots=True)
class Lost:
    """RunPod gave the job up: no worker took it, or its worker fell silent."""

    message: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """By us, or by somebody at RunPod's console."""


NO_OUTPUT = Fault(
    InvalidOutput.code,
    "RunPod has the job as completed and no output of it, which may have been too large; give the "
    "worker the BUCKET_ variables",
    retryable=True,
)

Report = Waiting | Working | Done | Failed | Lost | Cancelled


def report_of(answer: Mapping[str, Any]) -> Report:
    match answer.get("status"):
        case "COMPLETED":
            return _completed(answer.get("output"))
        case "FAILED":
            return Failed(_fault(answer.get("error"), answer.get("output")))
        case "TIMED_OUT":
            return Lost("RunPod gave the job up: it waited or ran for too long")
        case "CANCELLED":
            return Cancelled()
        case "IN_PROGRESS" | "RUNNING":
            return Working(*progress_of(answer.get("output")))
        case _:
            return Waiting()


def _completed(output: Any) -> Done | Failed:
    if isinstance(output, Mapping) and (output.get("error") or output.get("ok") is False):
        # RunPod shows it so when the worker's `error` is no string (runpod-python issue 299).
        return Failed(_fault(output.get("error"), output))
    return Done(output or None)


def _fault(error: Any, output: Any) -> Fault:
    """What comes without a code is no answer of our worker's but RunPod's of the end of one, so
    another may do better; what comes with one alone is as the worker's table of errors says."""
    fault = fault_of(error or "", output)
    details = output if isinstance(output, Mapping) else {}
    if fault.code == WorkerError.code:
        return Fault(fault.code, fault.message, True)
    if fault.code not in _RETRYABLE and not details.get("code"):
        return Fault(WorkerError.code, presentable(f"{fault.code}: {fault.message}"), True)
    is_told = isinstance(details.get("retryable"), bool)
    again = fault.retryable if is_told else _RETRYABLE.get(fault.code, False)
    return Fault(fault.code, fault.message, again)


def _codes(kind: type[HandlerError]) -> dict[str, bool]:
    codes = {kind.code: kind.retryable} if hasattr(kind, "code") else {}
    for special in kind.__subclasses__():
        codes |= _codes(special)
    return codes


_RETRYABLE = _codes(HandlerError)
