"""RunPod's answers, from status, headers and bytes to an object or a typed error. Pure.

A body is read as JSON only where the status says that it is an answer: a 401 is empty or a page
of HTML, and so is what the edge before RunPod sends.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from gateway.runpod.errors import (
    Forbidden,
    KeyRefused,
    NotFound,
    RateLimited,
    Rejected,
    RunPodError,
    TooBig,
    Unavailable,
)

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_LONGEST_WAIT_S = 120.0
_RESET = re.compile(r"(?:^|[;,\s])(?:t|reset)=(\d{1,6})\b")


def error_of(status: int, headers: Mapping[str, str], what: str, now: datetime) -> RunPodError:
    """For a status that is not 200; `what` names the call."""
    said = f"RunPod answered {status} to {what}"
    match status:
        case 401:
            return KeyRefused(f"{said}: it refuses the API key", status=status)
        case 403:
            return Forbidden(f"{said}: the API key has no right to this", status=status)
        case 404:
            return NotFound(f"{said}: it knows no such endpoint or job", status=status)
        case 413:
            return TooBig(f"{said}: the request is too large", status=status)
        case 429:
            return RateLimited(said, retry_after_s=retry_after_s(headers, now))
        # Of a 408 it is not known how much was read.
        case 408 | 425:
            return Unavailable(said, not_taken=False, status=status)
        case _ if 300 <= status < 500:
            return Rejected(said, status=status)
        case _:
            return Unavailable(said, not_taken=False, status=status)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Of `Retry-After` (seconds or a date), else of `RateLimit` (the seconds until its reset)."""
    asked = headers.get("retry-after", "").strip()
    seconds: float | None = None
    if asked.isascii() and asked.isdigit():
        seconds = float(asked[:9])
    elif asked:
        try:
            date = parsedate_to_datetime(asked)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            seconds = (date - now).total_seconds()
        except (ValueError, OverflowError):
            pass
    if seconds is None and (reset := _RESET.search(headers.get("ratelimit", ""))):
        seconds = float(reset[1])
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_WAIT_S)


def object_of(body: bytes | bytearray, what: str) -> dict[str, Any]:
    """The JSON object of a 200. Raises Unavailable: whatever was asked may have been done."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Unavailable(f"RunPod's answer to {what} is not JSON", not_taken=False) from exc
    if not isinstance(answer, dict):
        raise Unavailable(f"RunPod's answer to {what} is no object", not_taken=False)
    return answer


def job_id_of(answer: Mapping[str, Any], what: str) -> str:
    """Raises Unavailable for an answer without an id that can stand in an address."""
    job_id = answer.get("id")
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise Unavailable(f"RunPod's answer to {what} names no job", not_taken=False)
    return job_id
