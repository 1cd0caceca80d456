"""Several things at a time, of which the first that fails ends the others."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def run_at_once(work: Iterable[Coroutine[Any, Any, Result]], most: int) -> list[Result]:
    """The results in the order of `work`, at most `most` of it going on at a time. Raises what the
    first that fails raises."""
    slots = asyncio.Semaphore(most)

    async def run(one: Coroutine[Any, Any, Result]) -> Result:
        async with slots:
            return await one

    pending = list(work)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(one)) for one in pending]
    except ExceptionGroup as faults:
        first = faults.exceptions[0]
        raise first from first.__cause__
    finally:
        # Harmless where it has ended; else Python warns of work that was never begun.
        for one in pending:
            one.close()
    return [task.result() for task in tasks]
