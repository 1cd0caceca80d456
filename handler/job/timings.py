"""How long each phase of a job took."""

import contextlib
import time
from collections.abc import Iterator

from handler.comfy_api import Execution


class Timings:
    """Milliseconds a phase, in the order in which the phases began, and the total."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._phases_ms: dict[str, int] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """One that comes again adds up."""
        started = time.perf_counter()
        before_ms = self._phases_ms.setdefault(name, 0)
        try:
            yield
        finally:
            self._phases_ms[name] = before_ms + round((time.perf_counter() - started) * 1000)

    def split_run(self, execution: Execution) -> None:
        """Tell the wait for ComfyUI's turn from the execution, by ComfyUI's own clock."""
        if execution.started_at_s is None or execution.ended_at_s is None:
            return
        execute_ms = round((execution.ended_at_s - execution.started_at_s) * 1000)
        self._phases_ms["wait"] = max(0, self._phases_ms.pop("run") - execute_ms)
        self._phases_ms["execute"] = execute_ms

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._started

    def as_dict(self) -> dict[str, int]:
        return {**self._phases_ms, "total": round(self.elapsed_s * 1000)}
