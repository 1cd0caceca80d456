"""One prompt on ComfyUI, from the queue to its history entry. Deadline, cancellation and the
child's death all end the one wait here; a prompt that is given up never stays on the GPU."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from handler.comfy_client import ComfyClient
from handler.errors import BackendError, ComfyExited, ComfyUnavailable, PromptLost
from handler.history import in_order_of, is_interrupted
from handler.logs import get_logger
from handler.node_outputs import SavedFile, files_of
from handler.progress import PromptProgress, Update
from handler.supervisor import Supervisor

# /history is the truth about a prompt; the websocket only makes the worker look sooner.
_HISTORY_POLL_S = 0.25
_QUEUE_POLL_S = 1.0
# ComfyUI writes the history just after it has told the websocket that the prompt ended.
_ENDED_POLL_S = 0.01
_STOP_POLL_S = 0.1
_PROGRESS_LOG_S = 1.0
_ENDINGS = frozenset({"execution_success", "execution_error", "execution_interrupted"})

log = get_logger()


class PromptRun:
    """Runs `prompt` once, or a second time if ComfyUI dies before it has begun."""

    def __init__(
        self,
        comfy: ComfyClient,
        supervisor: Supervisor,
        prompt: Mapping[str, Any],
        prompt_id: str,
        *,
        interrupt_grace_s: float,
        on_progress: Callable[[Update], None],
        comfy_org_api_key: str | None = None,
    ) -> None:
        self._comfy = comfy
        self._supervisor = supervisor
        self._prompt = prompt
        self._prompt_id = prompt_id
        self._interrupt_grace_s = interrupt_grace_s
        self._generation = 0
        self._has_begun = False
        self._has_ended = False
        self._progress = PromptProgress(prompt)
        self._on_progress = on_progress
        self._comfy_org_api_key = comfy_org_api_key
        self._last_step_logged_s = 0.0
        self._entry: dict[str, Any] | None = None

    @property
    def files(self) -> tuple[SavedFile, ...]:
        """What the prompt left on disk, however it ended."""
        return files_of(self._entry) if self._entry else ()

    async def execute(self) -> dict[str, Any]:
        """The prompt's history entry. Raises WorkflowRejected and BackendError."""
        try:
            entry = await self._attempt()
        except ComfyExited:
            if self._has_begun:
                raise
            log.warning("prompt queued again", reason="comfyui ended before it began")
            return await self._attempt()
        if is_interrupted(entry):
            # Nobody has asked for that: ComfyUI's interrupt hits whatever runs when it arrives,
            # and was meant for the prompt before (server.py, post_interrupt).
            log.warning("prompt queued again", reason="interrupted in another's place")
            self._has_ended = False
            return await self._attempt()
        return entry

    async def _attempt(self) -> dict[str, Any]:
        await self._supervisor.ensure_ready()
        self._generation = self._supervisor.generation
        try:
            async with self._comfy.events(self._prompt_id) as events:
                await self._queue()
                log.info("prompt queued")
                self._entry = in_order_of(self._prompt, await self._wait(events))
            # The result is in hand: a child that dies now can't take it back.
            with contextlib.suppress(BackendError):
                await self._comfy.forget(self._prompt_id)
        except ComfyExited:
            raise
        except BaseException as exc:
            await _finish(self._give_up(exc))
            raise
        finally:
            self._supervisor.running.discard(self._prompt_id)
        return self._entry

    async def _queue(self) -> None:
        """As `_wait`, this is patient with a ComfyUI that lives and is silent."""
        while True:
            try:
                await self._comfy.queue_prompt(
                    self._prompt, self._prompt_id, self._comfy_org_api_key
                )
            except ComfyUnavailable:
                await self._raise_if_exited()
                with contextlib.suppress(ComfyUnavailable):
                    if self._prompt_id in set().union(*await self._comfy.queue()):
                        return
            else:
                return

    async def _wait(self, events: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
        look_at_queue_s = time.monotonic() + _QUEUE_POLL_S
        while True:
            self._supervisor.check_alive(self._generation)
            try:
                if entry := await self._comfy.history(self._prompt_id):
                    return entry
                if time.monotonic() >= look_at_queue_s:
                    await self._check_known()
                    look_at_queue_s = time.monotonic() + _QUEUE_POLL_S
            except ComfyUnavailable:
                # Alive and silent: a node may hold the interpreter for long. The deadline decides.
                await asyncio.sleep(_HISTORY_POLL_S)
            await self._listen(events)

    async def _listen(self, events: asyncio.Queue[dict[str, Any]]) -> None:
        """Return when it is time to look at the history again."""
        poll_s = _ENDED_POLL_S if self._has_ended else _HISTORY_POLL_S
        try:
            async with asyncio.timeout(poll_s):
                while not self._take(await events.get()):
                    pass
        except TimeoutError:
            pass

    def _take(self, message: Mapping[str, Any]) -> bool:
        """Note what a message says; True when the prompt has ended."""
        kind, data = message.get("type"), message.get("data")
        if not isinstance(data, dict) or data.get("prompt_id") != self._prompt_id:
            return False
        if update := self._progress.take(str(kind), data):
            self._begin()
            self._log(update)
            self._on_progress(update)
        elif kind == "execution_start":
            self._begin()
        elif kind == "executing" or kind in _ENDINGS:
            self._has_ended = True
        return self._has_ended

    def _begin(self) -> None:
        self._has_begun = True
        self._supervisor.running.add(self._prompt_id)

    def _log(self, update: Update) -> None:
        if "steps" not in update:
            log.debug("node begins", **update)
            return
        now = time.monotonic()
        is_due = now - self._last_step_logged_s >= _PROGRESS_LOG_S
        if is_due or update["step"] == update["steps"]:
            self._last_step_logged_s = now
            log.info("progress", **update)

    async def _check_known(self) -> None:
        running, pending = await self._comfy.queue()
        if self._prompt_id in running:
            self._begin()
        elif self._prompt_id not in pending and not await self._comfy.history(self._prompt_id):
            raise PromptLost("ComfyUI no longer knows the prompt, and has no result of it")

    async def _raise_if_exited(self) -> None:
        """A connection breaks a moment before the child can be seen to have ended."""
        for _ in range(10):
            self._supervisor.check_alive(self._generation)
            await asyncio.sleep(0.05)

    async def _give_up(self, reason: BaseException) -> None:
        """Stop the prompt and wait until it is gone; restart a child that does not let go of it.

        A child that is busy with another's prompt is waited for: that one has a deadline too.
        """
        if isinstance(reason, ComfyUnavailable):
            await self._raise_if_exited()
        while not self._supervisor.is_leaving:
            # Asked before the try: a child that is just free again gets the whole time once more.
            is_busy = bool(self._supervisor.running - {self._prompt_id})
            try:
                async with asyncio.timeout(self._interrupt_grace_s):
                    return await self._stop()
            except (TimeoutError, BackendError):
                if self._generation != self._supervisor.generation:
                    return None
                if not is_busy:
                    return self._supervisor.restart()
            await asyncio.sleep(_STOP_POLL_S)
        return None

    async def _stop(self) -> None:
        await self._comfy.stop_prompt(self._prompt_id)
        while self._prompt_id in set().union(*await self._comfy.queue()):
            await asyncio.sleep(_STOP_POLL_S)
            # Again: ComfyUI forgets an interruption that comes just before it begins
            # (execution.py, execute_async).
            await self._comfy.stop_prompt(self._prompt_id)
        self._entry = await self._comfy.history(self._prompt_id)
        await self._comfy.forget(self._prompt_id)


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end. A cancellation meanwhile is raised after it: a job cancelled twice
    must not leave its prompt behind."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is None:
        task.result()
    else:
        await asyncio.gather(task, return_exceptions=True)
        raise cancelled
