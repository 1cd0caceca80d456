"""Python's garbage collector, kept out of the start and out of the time between two prompts: with
600,000 objects a collection takes 0.3 s, and 20 ms when those of the start are left out."""

import gc
import threading
from collections.abc import Callable
from typing import Any

_LONGEST_START_S = 300.0


class Collector:
    """The objects that a start makes stay, and each collection looks at all of them: a few during
    the start, and the one that ComfyUI makes after a prompt, which holds up the next prompt."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_settled = False

    def pause(self) -> None:
        """Until `settle`; until some time has passed, should that never be called."""
        gc.disable()
        timer = threading.Timer(_LONGEST_START_S, self.settle)
        timer.daemon = True
        timer.start()

    def settle(self) -> None:
        """What is there now is looked at no more; what comes is collected as usual."""
        with self._lock:
            if self._is_settled:
                return
            self._is_settled = True
            executors = _prompt_executors()
            if executors:
                gc.freeze()
                for executor in executors:
                    # Its caches refer to themselves: frozen ones, with every model that they come
                    # to hold, would outlive ComfyUI's /free.
                    executor.reset()
            gc.enable()


def _prompt_executors() -> list[Any]:
    """ComfyUI makes one, at the start of the thread that runs prompts (main.py, prompt_worker)."""
    return [
        thing
        for thing in gc.get_objects()
        if type(thing).__name__ == "PromptExecutor" and hasattr(thing, "reset")
    ]


def when_listening(act: Callable[[], None]) -> None:
    """Have `act` called when the first server of aiohttp listens, which is ComfyUI's."""
    from aiohttp import web

    start = web.TCPSite.start

    async def start_and_act(site: web.TCPSite) -> None:
        await start(site)
        web.TCPSite.start = start
        act()

    web.TCPSite.start = start_and_act
