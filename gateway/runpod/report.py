"""RunPod's status object, or its hook's body, which has the same form: what it says of a job. Pure.

Only `id` and `status` are sure to be there. `error` is a string; that of an exception is JSON text
with a trace, which nobody outside may see.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidOutput, WorkerError
from gateway.job import Fault
from handler.errors import WorkerError as HandlerError

_LONGEST_MESSAGE = 500
_LONGEST_PHASE = 40
_CODE = re.compile(r"([a-z][a-z0-9_]{2,39}): (.+)", re.DOTALL)
_TRACE = re.compile(r"\n?Traceback \(most recent call last\):.*", re.DOTALL)
# Addresses stay: their slashes stand beside a slash or after a host.
_PATH = re.compile(r"(?<![\w/.:])/(?:[\w.@+~-]+/)+([\w.@+~-]*)")
_NOT_WRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


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
    """`output` is what the worker returned; `timings` RunPod's own, in milliseconds."""

    output: Any
    timings: dict[str, int]


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


Report = Waiting | Working | Done | Failed | Lost | Cancelled


def report_of(answer: Mapping[str, Any]) -> Report:
    match answer.get("status"):
        case "COMPLETED":
            return _completed(answer)
        case "FAILED":
            return Failed(_fault(answer.get("error"), answer.get("output")))
        case "TIMED_OUT":
            return Lost("RunPod gave the job up: it waited or ran for too long")
        case "CANCELLED":
            return Cancelled()
        case "IN_PROGRESS" | "RUNNING":
            return _working(answer.get("output"))
        case _:
            return Waiting()


def presentable(text: object) -> str:
    """A message that may be shown and written to any database: without a trace, a path of the
    container or a character that UTF-8 or PostgreSQL lacks."""
    plain = _NOT_WRITABLE.sub(" ", _TRACE.sub("", str(text)))
    plain = _PATH.sub(r".../\1", plain).strip()
    return plain if len(plain) <= _LONGEST_MESSAGE else f"{plain[:_LONGEST_MESSAGE]}..."


def _completed(answer: Mapping[str, Any]) -> Done | Failed:
    output = answer.get("output")
    if isinstance(output, Mapping) and (output.get("error") or output.get("ok") is False):
        # RunPod shows it so when the worker's `error` is no string (runpod-python issue 299).
        return Failed(_fault(output.get("error"), output))
    if output is None or output == {}:
        return Failed(
            Fault(
                InvalidOutput.code,
                "RunPod has the job as completed and no output of it: it may have been too large; "
                "give the worker the BUCKET_ variables",
                retryable=True,
            )
        )
    times = {"delay": _number(answer.get("delayTime"))}
    times["execution"] = _number(answer.get("executionTime"))
    return Done(output, {name: value for name, value in times.items() if value is not None})


def _working(output: Any) -> Working:
    """`output` is what the worker last told of its progress."""
    if not isinstance(output, Mapping):
        return Working()
    phase, percent = output.get("phase"), _number(output.get("percent"))
    return Working(
        presentable(phase)[:_LONGEST_PHASE] if isinstance(phase, str) else None,
        None if percent is None else min(max(percent, 0), 99),
    )


def _fault(error: Any, output: Any) -> Fault:
    """Our worker's code, message and whether to try again; what comes without a code is no answer
    of our worker's but the end of it, so another may do better."""
    if isinstance(output, Mapping) and isinstance(output.get("code"), str):
        code, message = output["code"], output.get("message") or error
        retryable = output.get("retryable")
        if _CODE.fullmatch(f"{code}: x"):
            known = retryable if isinstance(retryable, bool) else _is_retryable(code)
            return Fault(code, presentable(message or code), known)
    text = _text_of(error)
    if (parts := _CODE.fullmatch(text)) and parts[1] in _RETRYABLE:
        return Fault(parts[1], presentable(parts[2]), _is_retryable(parts[1]))
    return Fault(WorkerError.code, presentable(text) or "the worker gave no reason", True)


def _text_of(error: Any) -> str:
    if not isinstance(error, str):
        return json.dumps(error) if error else ""
    try:
        told = json.loads(error)
    except (ValueError, RecursionError):
        return error
    if isinstance(told, Mapping) and isinstance(told.get("error_message"), str):
        return str(told["error_message"])
    # Without the trace that another key of it may hold.
    return "the worker failed" if isinstance(told, Mapping) else error


def _number(value: Any) -> int | None:
    """Rounded; None for what is no number of a sensible size."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return round(value) if is_number and abs(value) < 1e12 else None


def _is_retryable(code: str) -> bool:
    return _RETRYABLE.get(code, False)


def _codes(kind: type[HandlerError]) -> dict[str, bool]:
    codes = {kind.code: kind.retryable} if hasattr(kind, "code") else {}
    for special in kind.__subclasses__():
        codes |= _codes(special)
    return codes


_RETRYABLE = _codes(HandlerError)
