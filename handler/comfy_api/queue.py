"""Gives ComfyUI a prompt, once, also where its answer does not come."""

import contextlib
from collections.abc import Mapping
from typing import Any

from handler.comfy import Supervisor
from handler.comfy_api.client import ComfyClient
from handler.errors import ComfyUnavailable


async def queue_prompt(
    comfy: ComfyClient, supervisor: Supervisor, prompt: Mapping[str, Any], prompt_id: str,
    generation: int, comfy_org_api_key: str | None,
) -> bool:  # fmt: skip
    """Patient with a ComfyUI that lives and is silent: a node may hold the interpreter for long.

    False when it may come to hold the prompt more often than once. Raises ComfyExited,
    ComfyProtocol and WorkflowRejected.
    """
    is_once = True
    while True:
        try:
            await comfy.queue_prompt(prompt, prompt_id, comfy_org_api_key)
        except ComfyUnavailable:
            # It may have been taken all the same, or be taken later.
            if await _has_arrived(comfy, supervisor, prompt_id, generation):
                return is_once
            is_once = False
        else:
            return is_once


async def _has_arrived(
    comfy: ComfyClient, supervisor: Supervisor, prompt_id: str, generation: int
) -> bool:
    """Whether ComfyUI has the prompt, once it answers again."""
    while True:
        await supervisor.raise_if_exiting(generation)
        with contextlib.suppress(ComfyUnavailable):
            # In this order: a prompt goes from the one to the other.
            return (
                prompt_id in set().union(*await comfy.queue())
                or await comfy.history(prompt_id) is not None
            )
