"""Keeps one ComfyUI ready: starts it, waits for it, starts it again within a budget."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable

from handler.comfy.process import ComfyExit, ComfyProcess
from handler.errors import ComfyExited, ComfyUnavailable
from handler.logs import get_logger
from handler.machine import Shutdown

_BUDGET_WINDOW_S = 600.0
_READY_POLL_S = 0.1

log = get_logger()


class Supervisor:
    """`is_answering` asks the child's HTTP API whether it is up; it must not raise.

    `generation` counts the children: a prompt belongs to the child that was given it.
    """

    def __init__(
        self,
        process: ComfyProcess,
        is_answering: Callable[[], Awaitable[bool]],
        shutdown: Shutdown,
        *,
        boot_timeout_s: float,
        restarts: int,
    ) -> None:
        self._process = process
        self._is_answering = is_answering
        self._shutdown = shutdown
        self._boot_timeout_s = boot_timeout_s
        self._restarts = restarts
        self._starts: deque[float] = deque()
        self._last_exit = ComfyExit(0, ())
        self._is_ready = False
        self._told_of = 0
        self._started_at_s = 0.0
        # Prompts known to have begun: at most one, but for moments.
        self.running: set[str] = set()
        self._booting: asyncio.Task[None] | None = None
        self.generation = 0

    def start(self, *, is_deliberate: bool = False) -> None:
        """Start a child and return at once. Raises ComfyUnavailable when the budget is spent, on
        which a deliberate restart does not draw, when the child before does not end, and when the
        worker is leaving."""
        if self.is_leaving:
            raise ComfyUnavailable("the worker is shutting down")
        now = time.monotonic()
        while self._starts and now - self._starts[0] > _BUDGET_WINDOW_S:
            self._starts.popleft()
        if len(self._starts) > self._restarts and not is_deliberate:
            error = ComfyUnavailable(
                f"ComfyUI ended {len(self._starts)} times within {_BUDGET_WINDOW_S / 60:.0f} "
                f"minutes, last with {self._last_exit.reason}; giving up",
                # Of a child that has had jobs, the lines are not for this one's caller.
                log_tail=list(self._last_exit.log_tail) if self._died_at_boot else [],
            )
            error.refresh_worker = True
            raise error
        self._started_at_s = now
        if not is_deliberate:
            self._starts.append(now)
        self._is_ready = False
        self.generation += 1
        self._process.start()
        log.info("comfyui started", pid=self._process.pid)

    def restart(self, reason: str, *, is_deliberate: bool = True) -> None:
        """Kill a child that does not obey, or can't go on, and have the next one booting.

        A restart that is not deliberate draws on the budget: a GPU that breaks every child is not
        mended by yet another one.
        """
        log.warning("comfyui restarts", reason=reason)
        # One that does not end is for the next job to report, by `start` again.
        with contextlib.suppress(ComfyUnavailable):
            self._process.stop(grace_s=0)
        self._last_exit = self._process.exit() or self._last_exit
        with contextlib.suppress(ComfyUnavailable):
            self.start(is_deliberate=is_deliberate)

    def stop(self) -> None:
        self._is_ready = False
        self._process.stop()

    def leave_at_once(self) -> None:
        """Who waits for the child's answers has them broken off; no other child is started."""
        self._shutdown.leave()
        self._process.kill()

    @property
    def is_leaving(self) -> bool:
        """Whether the child is about to be killed: no prompt needs to be stopped by itself."""
        return self._shutdown.is_leaving

    def check_alive(self, generation: int) -> None:
        """Raises ComfyExited when that child is gone, and has the next one booting."""
        if generation == self.generation and (ended := self._process.exit()):
            self._note_exit(ended)
            # What it started dies with it, also when no other child follows.
            self._process.stop()
            # A spent budget is for the next job to report: this one has its own error.
            with contextlib.suppress(ComfyUnavailable):
                self.start()
            raise _exited(ended)
        if generation != self.generation:
            raise _exited(self._last_exit)

    async def raise_if_exiting(self, generation: int) -> None:
        """As `check_alive`, of a connection that broke: it does so a moment before the child can
        be seen to have ended."""
        for _ in range(10):
            self.check_alive(generation)
            await asyncio.sleep(0.05)

    @property
    def _died_at_boot(self) -> bool:
        """Whether the last child never became ready, and a job has been told so."""
        return self._told_of == self.generation

    def _note_exit(self, ended: ComfyExit) -> None:
        self._last_exit = ended
        log.error("comfyui exited", reason=ended.reason, log_tail=ended.log_tail)

    async def ensure_ready(self) -> None:
        """Return when ComfyUI answers. Raises ComfyUnavailable; concurrent calls share one boot."""
        if self._is_ready and self._process.exit() is None:
            return
        if self._booting is None or self._booting.done():
            self._booting = asyncio.get_running_loop().create_task(self._boot())
        # A cancelled job must not take the other jobs' boot with it.
        await asyncio.shield(self._booting)

    async def _boot(self) -> None:
        if self._process.is_stuck:
            # Raises, unless it has ended meanwhile.
            self.start(is_deliberate=True)
        # A child that died unseen while it was starting is reported, not quietly tried again.
        is_known = self._is_ready or self._died_at_boot
        if is_known and (ended := self._process.exit()):
            self._note_exit(ended)
            self.start()
        started = time.monotonic()
        while not await self._is_answering():
            if ended := self._process.exit():
                self._last_exit, self._told_of = ended, self.generation
                raise ComfyUnavailable(
                    f"ComfyUI ended while it was starting ({ended.reason})",
                    exit_code=ended.exit_code, log_tail=list(ended.log_tail),
                )  # fmt: skip
            if time.monotonic() - started > self._boot_timeout_s:
                await asyncio.to_thread(self._process.stop)
                self._last_exit = self._process.exit() or self._last_exit
                self._told_of = self.generation
                raise ComfyUnavailable(
                    f"ComfyUI did not answer within {self._boot_timeout_s:g} s of its start",
                    log_tail=list(self._last_exit.log_tail),
                )
            await asyncio.sleep(_READY_POLL_S)
        self._is_ready = True
        log.info("comfyui ready", boot_s=round(time.monotonic() - self._started_at_s, 2))


def _exited(ended: ComfyExit) -> ComfyExited:
    """Without the child's last lines, which may hold what another caller sent; the log has them."""
    error = ComfyExited(
        f"ComfyUI ended during the job ({ended.reason}); it is being started again",
        exit_code=ended.exit_code,
    )
    error.was_stopped = ended.was_stopped
    if ended.memory_bytes is not None:
        # The same job would do the same again.
        error.retryable = False
    return error
