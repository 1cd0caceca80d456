"""One prompt on ComfyUI, from the queue to its history entry. Deadline, cancellation and the
child's death all end the one wait here; what was no fault of the prompt's own is tried again."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from handler.comfy import Supervisor
from handler.comfy_api.client import ComfyClient
from handler.comfy_api.events import PromptEvents
from handler.comfy_api.gpu_faults import damage, is_out_of_memory
from handler.comfy_api.history import in_order_of, is_interrupted, node_error
from handler.comfy_api.node_outputs import SavedFile, files_of
from handler.comfy_api.progress import Update
from handler.comfy_api.queue import queue_prompt
from handler.comfy_api.stop import drop, stop_prompt, to_the_end
from handler.errors import BackendError, ComfyExited, ComfyUnavailable, PromptLost
from handler.logs import get_logger

_QUEUE_POLL_S = 1.0
# Between two looks at a ComfyUI that lives and does not answer.
_SILENT_POLL_S = 0.25
# A result in hand is not kept waiting for long.
_FORGET_S = 2.0

log = get_logger()


class PromptRun:
    """Runs `prompt`, and runs it again where its end says nothing about it: ComfyUI died before it
    began or was ended for another's sake, it was interrupted in another's place, or memory ran out
    and all models could be freed. All of that is within the caller's one deadline.

    `on_wait` is called whenever it is queued.
    """

    def __init__(
        self,
        comfy: ComfyClient,
        supervisor: Supervisor,
        prompt: Mapping[str, Any],
        prompt_id: str,
        *,
        interrupt_grace_s: float,
        on_wait: Callable[[], None],
        on_progress: Callable[[Update], None],
        comfy_org_api_key: str | None = None,
    ) -> None:
        self._comfy = comfy
        self._supervisor = supervisor
        self._prompt = prompt
        self._prompt_id = prompt_id
        self._freeing_id = f"{prompt_id}-free"
        self._interrupt_grace_s = interrupt_grace_s
        self._on_wait = on_wait
        self._on_progress = on_progress
        self._generation = 0
        self._has_begun = False
        self._is_to_free = False
        self._is_queued_once = True
        self._comfy_org_api_key = comfy_org_api_key
        self._reasons: set[str] = set()
        self._entries: list[dict[str, Any]] = []

    @property
    def files(self) -> tuple[SavedFile, ...]:
        """What the prompt left on disk, however it ended, at every attempt."""
        return tuple(chain.from_iterable(map(files_of, self._entries)))

    async def execute(self) -> dict[str, Any]:
        """The prompt's history entry. Raises WorkflowRejected and BackendError."""
        while True:
            try:
                entry = await self._attempt()
            except ComfyExited as exc:
                if exc.was_stopped:
                    # As often as it comes: each time is another job's doing.
                    self._log_again("comfyui was restarted for another prompt's sake")
                elif self._has_begun or not self._is_new("comfyui ended before it began"):
                    raise
            else:
                if not await self._is_to_repeat(entry):
                    return entry

    async def _is_to_repeat(self, entry: Mapping[str, Any]) -> bool:
        if is_interrupted(entry):
            # Nobody has asked for that: ComfyUI's interrupt hits whatever runs when it arrives,
            # and was meant for the prompt before (server.py, post_interrupt).
            return self._is_new("interrupted in another's place")
        error = node_error(entry)
        if not (error and is_out_of_memory(*error) and self._is_new("out of memory")):
            return False
        self._is_to_free = True
        return True

    def _is_new(self, reason: str) -> bool:
        """Whether to try again for this reason: once for each."""
        if reason in self._reasons:
            return False
        self._reasons.add(reason)
        self._log_again(reason)
        return True

    def _log_again(self, reason: str) -> None:
        log.warning("prompt queued again", reason=reason)

    async def _attempt(self) -> dict[str, Any]:
        self._has_begun = False
        self._on_wait()
        await self._supervisor.ensure_ready()
        self._generation = self._supervisor.generation
        try:
            await self._free()
            async with self._comfy.events(self._prompt_id) as messages:
                self._is_queued_once = await queue_prompt(
                    self._comfy, self._supervisor, self._prompt, self._prompt_id,
                    self._generation, self._comfy_org_api_key,
                )  # fmt: skip
                log.info("prompt queued")
                entry = in_order_of(self._prompt, await self._wait(messages))
            self._entries.append(entry)
            await self._settle(entry)
        except ComfyExited:
            raise
        except BaseException as exc:
            await to_the_end(self._give_up(exc))
            raise
        finally:
            self._supervisor.running.discard(self._prompt_id)
        return entry

    async def _free(self) -> None:
        """ComfyUI unloads its models by itself when memory runs out, but keeps the results of
        nodes, and torch keeps the memory."""
        if self._is_to_free:
            self._is_to_free = False
            with contextlib.suppress(BackendError):
                await self._comfy.free(self._freeing_id)

    async def _wait(self, messages: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
        events = PromptEvents(
            self._prompt, self._prompt_id, messages,
            on_begin=self._begin, on_progress=self._on_progress,
        )  # fmt: skip
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
                await asyncio.sleep(_SILENT_POLL_S)
            await events.listen()

    async def _settle(self, entry: Mapping[str, Any]) -> None:
        """Have ComfyUI forget the prompt, or end a child that the prompt has made unfit."""
        error = node_error(entry)
        if error and (harm := damage(*error)):
            if self._generation != self._supervisor.generation:
                # Harmed by the prompt before this one, for which the child has been replaced.
                self._supervisor.check_alive(self._generation)
            self._supervisor.restart(f"a node failed: {harm.value} damaged", is_deliberate=False)
            return
        # The result is in hand: a child that dies now can't take it back.
        with contextlib.suppress(BackendError, TimeoutError):
            async with asyncio.timeout(_FORGET_S):
                if not self._is_queued_once:
                    await drop(self._comfy, self._prompt_id)
                await self._comfy.forget(self._prompt_id, self._freeing_id)

    def _begin(self) -> None:
        self._has_begun = True
        self._supervisor.running.add(self._prompt_id)

    async def _check_known(self) -> None:
        running, pending = await self._comfy.queue()
        if self._prompt_id in running:
            self._begin()
        elif self._prompt_id not in pending and not await self._comfy.history(self._prompt_id):
            raise PromptLost("ComfyUI no longer knows the prompt, and has no result of it")

    async def _give_up(self, reason: BaseException) -> None:
        if isinstance(reason, ComfyUnavailable):
            await self._supervisor.raise_if_exiting(self._generation)
        entry = await stop_prompt(
            self._comfy, self._supervisor, self._prompt_id, self._generation,
            self._interrupt_grace_s, helper_id=self._freeing_id,
        )  # fmt: skip
        if entry:
            self._entries.append(entry)
