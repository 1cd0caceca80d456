"""How far a job is: from ComfyUI's messages to updates for the caller, in order, not too many."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

Update = dict[str, Any]
Send = Callable[[Update], Awaitable[None]]

_INTERVAL_S = 0.5
# A send that hangs must not hold up the answer for longer.
_LAST_SEND_S = 2.0


class Reporter:
    """Sends the latest update, at most one every half second; `report` never waits."""

    def __init__(self, send: Send | None) -> None:
        self._send = send
        self._latest: Update | None = None
        self._changed = asyncio.Event()

    def report(self, phase: str, **more: Any) -> None:
        """`phase` is one of those in an answer's timings; `more` is JSON."""
        self._latest = {"phase": phase, **more}
        self._changed.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send inside this context only: RunPod takes an update that comes after the result for
        the truth, and shows the job as running for good (runpod-python issue 250)."""
        if self._send is None:
            yield
            return
        idle = asyncio.Event()
        idle.set()
        sender = asyncio.create_task(self._send_updates(self._send, idle))
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(_LAST_SEND_S):
                    await idle.wait()
            except TimeoutError:
                pass
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def _send_updates(self, send: Send, idle: asyncio.Event) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._latest is not None:
                idle.clear()
                try:
                    with contextlib.suppress(OSError):
                        await send(self._latest)
                finally:
                    idle.set()
            await asyncio.sleep(_INTERVAL_S)


class PromptProgress:
    """Turns ComfyUI's websocket messages about one prompt into node, step and percent.

    Percent counts nodes, the running one by its steps: nodes differ in length, so it tells that
    something moves and not how long it will take. It never goes back.
    """

    def __init__(self, prompt: Mapping[str, Any]) -> None:
        self._prompt = prompt
        # Of the prompt's own nodes: each message looks at how many that are.
        self._done: set[str] = set()
        self._running: str | None = None
        self._percent = 0

    def take(self, kind: str, data: Mapping[str, Any]) -> Update | None:
        """An update, when the message is of a node or a step."""
        if kind == "execution_cached":
            for done_id in data.get("nodes") or ():
                self._note_done(str(done_id))
            return None
        node_id = data.get("node")
        if node_id is None or kind not in {"executing", "progress"}:
            return None
        node_id = str(node_id)
        if kind == "executing" and self._running not in {None, node_id}:
            self._note_done(str(self._running))
        self._running = node_id
        update: Update = {
            "node_id": node_id,
            "class_type": self._prompt.get(node_id, {}).get("class_type"),
        }
        value, most = data.get("value"), data.get("max")
        part = 0.0
        if kind == "progress" and isinstance(value, int) and isinstance(most, int) and most > 0:
            update |= {"step": value, "steps": most}
            part = min(1.0, value / most)
        done = len(self._done) + part
        self._percent = max(self._percent, min(99, int(100 * done / max(1, len(self._prompt)))))
        return update | {"percent": self._percent}

    def _note_done(self, node_id: str) -> None:
        if node_id in self._prompt:
            self._done.add(node_id)
