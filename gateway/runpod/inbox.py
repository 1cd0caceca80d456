"""What hooks have brought and nobody has looked at yet, in memory: a hint that is lost costs time.

A body counts only where RunPod has already forgotten the job; a second id of a job is that of a
double, which RunPod runs when the answer to a submit was lost.
"""

import json
import threading
from collections import OrderedDict, defaultdict
from typing import Any

_MOST_BYTES = 64_000_000
_MOST_DOUBLES = 1_000


class Inbox:
    """From any thread."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._doubles: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, remote_id: str, body: bytes) -> None:
        """Keeps it, at the cost of the oldest ones."""
        with self._lock:
            self._drop(remote_id)
            if len(body) > self._most_bytes:
                return
            self._bodies[remote_id] = body
            self._bytes += len(body)
            while self._bytes > self._most_bytes:
                self._drop(next(iter(self._bodies)))

    def take(self, remote_id: str) -> dict[str, Any] | None:
        """The body, which is forgotten by this."""
        with self._lock:
            body = self._bodies.get(remote_id)
            self._drop(remote_id)
        if body is None:
            return None
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def forget(self, remote_id: str) -> None:
        with self._lock:
            self._drop(remote_id)

    def note_double(self, job_id: str, remote_id: str) -> None:
        with self._lock:
            if len(self._doubles) < _MOST_DOUBLES:
                self._doubles[job_id].add(remote_id)

    def take_doubles(self, job_id: str) -> set[str]:
        with self._lock:
            return self._doubles.pop(job_id, set())

    def _drop(self, remote_id: str) -> None:
        self._bytes -= len(self._bodies.pop(remote_id, b""))
