"""The edit before the first job: it has ComfyUI load all weights."""

import time
from typing import Any

from handler.comfy_api import Reporter
from handler.contract import Delivery
from handler.errors import WorkerError
from handler.job.parse import Job
from handler.job.runner import Runner
from handler.job.timings import Timings
from handler.logs import get_logger
from handler.workflow import Blank, ModelNames, Sampling, Workflow, compile_edit, parse_prompt_edit

_SIDE = 64

log = get_logger()


def warm_up_nodes(names: ModelNames) -> dict[str, dict[str, Any]]:
    """Prompt mode's graph, one step on a tiny picture that no caller sends.

    Its loaders have the inputs that a job's have: by these ComfyUI finds again what it has loaded.
    """
    edit = parse_prompt_edit({"prompt": "warm up", "seed": 0, "steps": 1}, names)
    return compile_edit(edit, [Blank(_SIDE, _SIDE)], Sampling((_SIDE, _SIDE)))


async def warm_up(runner: Runner, names: ModelNames) -> None:
    """A failure is only logged: the jobs will tell, and some may not need what is wrong."""
    started = time.monotonic()
    workflow = Workflow(warm_up_nodes(names))
    job = Job("warm-up", "warm-up", workflow, (), Delivery.BASE64, None, None)
    try:
        await runner.run(job, Timings(), Reporter(None))
    except WorkerError as error:
        log.warning("warm-up failed", code=error.code, message=error.message)
    else:
        log.info("warm-up done", s=round(time.monotonic() - started, 2))
