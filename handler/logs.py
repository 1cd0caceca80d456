"""JSON log lines on stdout, with the context of the job and without secrets or picture data."""

import contextlib
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

import structlog

_REDACTED = "[redacted]"
# 120 characters of base64 in a row are no word of any language: they are picture data.
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{120,}={0,2}")
_SIGNED_QUERY = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId)=[^&\s\"']+"
)
_AUTHORIZATION = re.compile(r"(?i)\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}")


def make_scrubber(secrets: Iterable[str]) -> Callable[[Any], Any]:
    """A function that cleans any JSON-like value: strings, and strings inside dicts and lists."""
    known = tuple(secrets)

    def scrub_text(text: str) -> str:
        for secret in known:
            text = text.replace(secret, _REDACTED)
        text = _SIGNED_QUERY.sub(rf"\1={_REDACTED}", text)
        text = _AUTHORIZATION.sub(rf"\1 {_REDACTED}", text)
        return _BASE64_RUN.sub(lambda run: f"[{len(run.group())} characters of base64]", text)

    def scrub(value: Any) -> Any:
        is_finite = isinstance(value, float) and math.isfinite(value)
        if value is None or is_finite or isinstance(value, bool | int):
            return value
        if isinstance(value, dict):
            return {scrub_text(str(key)): scrub(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [scrub(item) for item in value]
        if isinstance(value, bytes | bytearray | memoryview):
            return f"[{len(value)} bytes]"
        return scrub_text(str(value))

    return scrub


class _Lines:
    """Writes whole lines to stdout, in one call each, from any thread and any forked process.

    A buffered stream would be copied by a fork with what it holds, and its lock with who holds it:
    RunPod's SDK forks a heartbeat while a thread of ours copies ComfyUI's lines.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._unlock)

    def msg(self, line: str) -> None:
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        # Nobody reads it, or its disk is full: no reason to end the work that it speaks of.
        with self._lock, contextlib.suppress(OSError):
            while data:
                data = data[os.write(1, data) :]

    log = debug = info = warning = error = critical = exception = msg

    def _unlock(self) -> None:
        self._lock = threading.Lock()


class _StandardHandler(logging.Handler):
    """The standard library's records as lines of the same kind."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.msg(self.format(record))


_LINES = _Lines()


def configure(level: str, secrets: Iterable[str]) -> None:
    """Set up logging for the whole process: structlog's loggers and the standard library's."""
    scrub = make_scrubber(secrets)

    def scrub_event(_logger: Any, _method: str, event: Any) -> Any:
        return scrub(dict(event))

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        scrub_event,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _LINES,
        cache_logger_on_first_use=False,
    )
    standard = _StandardHandler(_LINES)
    standard.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [standard]
    # Libraries speak of every request at INFO; their warnings are what an operator needs.
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
