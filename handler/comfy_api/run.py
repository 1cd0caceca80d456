"""One prompt on ComfyUI, at as many attempts as it needs."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any

from handler.comfy import Supervisor
from handler.comfy_api.attempt import Attempt, Prompt
from handler.comfy_api.client import ComfyClient
from handler.comfy_api.history import span_of
from handler.comfy_api.node_outputs import SavedFile, files_of
from handler.comfy_api.progress import Update
from handler.comfy_api.retry import Again, Retries
from handler.errors import ComfyExited


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
        self._on_wait = on_wait
        self._make_attempt = partial(
            Attempt, comfy, supervisor, Prompt(prompt, prompt_id, comfy_org_api_key),
            interrupt_grace_s=interrupt_grace_s, on_progress=on_progress,
        )  # fmt: skip
        self._attempts: list[Attempt] = []

    @property
    def files(self) -> tuple[SavedFile, ...]:
        """What the prompt left on disk, however it ended, at every attempt."""
        entries = (entry for attempt in self._attempts for entry in attempt.entries)
        return tuple(chain.from_iterable(map(files_of, entries)))

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """When it ran, in seconds since 1970, at every attempt."""
        entries = (entry for attempt in self._attempts for entry in attempt.entries)
        return tuple(span for span in map(span_of, entries) if span)

    async def execute(self) -> dict[str, Any]:
        """The prompt's history entry. Raises WorkflowRejected and BackendError."""
        retries = Retries()
        again: Again | None = Again.AS_IT_IS
        while True:
            attempt = self._make_attempt()
            self._attempts.append(attempt)
            self._on_wait()
            try:
                entry = await attempt.run(with_memory_freed=again is Again.WITH_MEMORY_FREED)
            except ComfyExited as exc:
                again = retries.after_exit(exc, had_begun=attempt.has_begun)
                if again is None:
                    raise
            else:
                again = retries.after_end(entry)
                if again is None:
                    return entry
