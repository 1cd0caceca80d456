"""What a worker says of a job, passed on by RunPod or posted to us: to an event. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import WorkerError
from gateway.job import Fault

_CODE = re.compile(r"([a-z]+(?:_[a-z]+)*): (.+)", re.DOTALL)
_LONGEST_MESSAGE = 2000
_TRACE = re.compile(r"\n?Traceback \(most recent call last\):.*", re.DOTALL)
# Addresses stay: their slashes stand beside a slash or after a host.
_PATH = re.compile(r"(?<![\w/.:])/(?:[\w.@+~-]+/)+([\w.@+~-]*)")
_NOT_WRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_PHASE = re.compile(r"[a-z_]{1,40}")


def fault_of(error: Any, output: Any) -> Fault:
    """`error` is a text: `code: message` of our worker, JSON of the SDK's where a handler raised,
    or anything of another worker. `output`, beside it, tells whether to try again."""
    details = output if isinstance(output, Mapping) else {}
    if isinstance(error, Mapping):
        raised: Any = error
    else:
        raised = _json(error)
    if isinstance(raised, Mapping):
        # The trace is not for callers. Whatever has raised may not do so elsewhere.
        kind = str(raised.get("error_type") or "an error").removeprefix("<class '").rstrip("'>")
        message = raised.get("error_message") or raised.get("message") or ""
        return Fault(WorkerError.code, presentable(f"the worker raised {kind}: {message}"), True)
    text = str(error)
    found = _CODE.fullmatch(text)
    code = details.get("code") or (found and found[1])
    if not isinstance(code, str) or not _CODE.fullmatch(f"{code}: x") or len(code) > 64:
        code = None
    message = details.get("message") or (found[2] if found else text)
    return Fault(
        code or WorkerError.code,
        presentable(str(message)) or "the worker gave no reason",
        details.get("retryable") is True,
    )


def progress_of(output: Any) -> tuple[str | None, int | None]:
    """Phase and percent of an update; None where it has none that can be shown."""
    if not isinstance(output, Mapping):
        return None, None
    phase, percent = output.get("phase"), output.get("percent")
    if not isinstance(phase, str) or not _PHASE.fullmatch(phase):
        phase = None
    if isinstance(percent, bool) or not isinstance(percent, int):
        percent = None
    return phase, None if percent is None else min(99, max(0, percent))


def _json(text: Any) -> Any:
    if not isinstance(text, str) or not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def presentable(text: str) -> str:
    """A message that may be shown, and written to any database: without a trace, a path of the
    container or a character that UTF-8 or PostgreSQL lacks."""
    plain = _NOT_WRITABLE.sub(" ", _TRACE.sub("", text))
    plain = _PATH.sub(r".../\1", plain).strip()
    return plain if len(plain) <= _LONGEST_MESSAGE else f"{plain[:_LONGEST_MESSAGE]}..."
