"""Whether a prompt is run again: where its end says nothing about it."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from handler.comfy_api.gpu_faults import is_out_of_memory
from handler.comfy_api.history import is_interrupted, node_error
from handler.errors import ComfyExited
from handler.logs import get_logger

log = get_logger()


class Again(Enum):
    AS_IT_IS = "as it is"
    WITH_MEMORY_FREED = "with memory freed"


class Retries:
    """Of one prompt: once for each reason, but for a restart that another job has caused."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()

    def after_exit(self, exited: ComfyExited, *, had_begun: bool) -> Again | None:
        """When ComfyUI ended before the prompt did."""
        if exited.was_stopped:
            # As often as it comes: each time is another job's doing.
            return _again("comfyui was restarted for another prompt's sake")
        return None if had_begun else self._once("comfyui ended before it began")

    def after_end(self, entry: Mapping[str, Any]) -> Again | None:
        """When it has ended with this history entry."""
        if is_interrupted(entry):
            # Nobody has asked for that: ComfyUI's interrupt hits whatever runs when it arrives,
            # and was meant for the prompt before (server.py, post_interrupt).
            return self._once("interrupted in another's place")
        error = node_error(entry)
        if error and is_out_of_memory(*error):
            return self._once("out of memory", Again.WITH_MEMORY_FREED)
        return None

    def _once(self, reason: str, how: Again = Again.AS_IT_IS) -> Again | None:
        if reason in self._reasons:
            return None
        self._reasons.add(reason)
        return _again(reason, how)


def _again(reason: str, how: Again = Again.AS_IT_IS) -> Again:
    log.warning("prompt queued again", reason=reason)
    return how
