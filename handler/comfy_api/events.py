"""What ComfyUI's websocket tells about one prompt: that it has begun, how far it is, its end."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from handler.comfy_api.progress import PromptProgress, Update
from handler.logs import get_logger

# /history is the truth about a prompt; the websocket only makes the worker look sooner.
_HISTORY_POLL_S = 0.25
# ComfyUI writes the history just after it has told the websocket that the prompt ended.
_ENDED_POLL_S = 0.01
_PROGRESS_LOG_S = 1.0
_ENDINGS = frozenset({"execution_success", "execution_error", "execution_interrupted"})

log = get_logger()


class PromptEvents:
    """Of one attempt. `on_begin` may be called many times."""

    def __init__(
        self,
        prompt: Mapping[str, Any],
        prompt_id: str,
        messages: asyncio.Queue[dict[str, Any]],
        *,
        on_begin: Callable[[], None],
        on_progress: Callable[[Update], None],
    ) -> None:
        self._prompt_id = prompt_id
        self._messages = messages
        self._on_begin = on_begin
        self._on_progress = on_progress
        self._progress = PromptProgress(prompt)
        self._has_ended = False
        self._last_step_logged_s = 0.0

    async def listen(self) -> None:
        """Return when it is time to look at the history again."""
        poll_s = _ENDED_POLL_S if self._has_ended else _HISTORY_POLL_S
        try:
            async with asyncio.timeout(poll_s):
                while not self._take(await self._messages.get()):
                    pass
        except TimeoutError:
            pass

    def _take(self, message: Mapping[str, Any]) -> bool:
        """Note what a message says; True when the prompt has ended."""
        kind, data = message.get("type"), message.get("data")
        if not isinstance(data, dict) or data.get("prompt_id") != self._prompt_id:
            return False
        if update := self._progress.take(str(kind), data):
            self._on_begin()
            self._log(update)
            self._on_progress(update)
        elif kind == "execution_start":
            self._on_begin()
        elif kind == "executing" or kind in _ENDINGS:
            self._has_ended = True
        return self._has_ended

    def _log(self, update: Update) -> None:
        if "steps" not in update:
            log.debug("node begins", **update)
            return
        now = time.monotonic()
        is_due = now - self._last_step_logged_s >= _PROGRESS_LOG_S
        if is_due or update["step"] == update["steps"]:
            self._last_step_logged_s = now
            log.info("progress", **update)
