"""Blocking calls in threads that nobody waits for at the end."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_daemon_thread(call: Callable[[], Result]) -> Result:
    """As asyncio.to_thread, but in a thread of its own, for calls that may hang.

    asyncio's threads are few, so that hanging ones would hold up everything else that is done in
    them, and a process that ends waits for each of them.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    # As asyncio.to_thread does: log lines name their job by it.
    context = contextvars.copy_context()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(call)
        except Exception as exc:
            error = exc
        # The loop is gone when the process ends.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
