"""The edit before the first job: it has ComfyUI load all weights. Pure, but for `warm_up`."""

import time
from typing import Any

from handler.comfy_api import Reporter
from handler.contract import Delivery
from handler.errors import WorkerError
from handler.job.parse import Job
from handler.job.runner import Runner
from handler.job.timings import Timings
from handler.logs import get_logger
from handler.pictures import InputImage
from handler.workflow import ModelNames, PromptEdit, Workflow, compile_edit

_SIDE = 64

log = get_logger()


def warm_up_nodes(names: ModelNames) -> dict[str, dict[str, Any]]:
    """Prompt mode's graph, one step on a tiny picture that no caller sends.

    Its loaders have the inputs that a job's have: by these ComfyUI finds again what it has loaded.
    """
    edit = PromptEdit(
        models=names, prompt="warm up", negative_prompt="", ratio=None, seed=0, steps=1, cfg=1.0,
        lora_strength=1.0 if names.lora else 0.0,
    )  # fmt: skip
    nodes = compile_edit(edit, [InputImage("tiny.png", b"", "png", _SIDE, _SIDE)])
    nodes["78"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": _SIDE, "height": _SIDE, "batch_size": 1, "color": 0},
    }
    # These two, and the encoder where it has a VAE, bring any picture to a megapixel.
    del nodes["117"]
    nodes["111"]["inputs"]["image1"] = ["78", 0]
    del nodes["111"]["inputs"]["vae"]
    nodes["88"]["inputs"] |= {"width": _SIDE, "height": _SIDE}
    return nodes


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
