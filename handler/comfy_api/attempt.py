"""One attempt at a prompt on ComfyUI, from the queue to its history entry. Deadline, cancellation
and the child's death all end the one wait here."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from handler.comfy import Supervisor
from handler.comfy_api.client import ComfyClient
from handler.comfy_api.events import PromptEvents
from handler.comfy_api.gpu_faults import damage
from handler.comfy_api.history import in_order_of, node_error
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


@dataclass(frozen=True, slots=True)
class Prompt:
    """What ComfyUI is given. The prompt `helper_id` is one that has memory freed before it."""

    nodes: Mapping[str, Any]
    prompt_id: str
    comfy_org_api_key: str | None = field(default=None, repr=False)

    @property
    def helper_id(self) -> str:
        return f"{self.prompt_id}-free"


class Attempt:
    """`entries` are what the prompt has left in the history, also where it was given up."""

    def __init__(
        self,
        comfy: ComfyClient,
        supervisor: Supervisor,
        prompt: Prompt,
        *,
        interrupt_grace_s: float,
        on_progress: Callable[[Update], None],
    ) -> None:
        self._comfy = comfy
        self._supervisor = supervisor
        self._prompt = prompt
        self._prompt_id = prompt.prompt_id
        self._interrupt_grace_s = interrupt_grace_s
        self._on_progress = on_progress
        self._generation = 0
        self._is_queued_once = True
        self.has_begun = False
        self.entries: list[dict[str, Any]] = []

    async def run(self, *, with_memory_freed: bool) -> dict[str, Any]:
        """The prompt's history entry. Raises WorkflowRejected and BackendError."""
        await self._supervisor.ensure_ready()
        self._generation = self._supervisor.generation
        try:
            if with_memory_freed:
                # ComfyUI unloads its models by itself when memory runs out, but keeps the results
                # of nodes, and torch keeps the memory.
                with contextlib.suppress(BackendError):
                    await self._comfy.free(self._prompt.helper_id)
            async with self._comfy.events(self._prompt_id) as messages:
                self._is_queued_once = await queue_prompt(
                    self._comfy, self._supervisor, self._prompt.nodes, self._prompt_id,
                    self._generation, self._prompt.comfy_org_api_key,
                )  # fmt: skip
                log.info("prompt queued")
                entry = in_order_of(self._prompt.nodes, await self._wait(messages))
            self.entries.append(entry)
            await self._settle(entry)
        except ComfyExited:
            raise
        except BaseException as exc:
            await to_the_end(self._give_up(exc))
            raise
        finally:
            self._supervisor.running.discard(self._prompt_id)
        return entry

    async def _wait(self, messages: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
        events = PromptEvents(
            self._prompt.nodes, self._prompt_id, messages,
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
                await self._comfy.forget(self._prompt_id, self._prompt.helper_id)

    def _begin(self) -> None:
        self.has_begun = True
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
            self._interrupt_grace_s, helper_id=self._prompt.helper_id,
        )  # fmt: skip
        if entry:
            self.entries.append(entry)
